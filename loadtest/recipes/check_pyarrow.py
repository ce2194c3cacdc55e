"""PyArrow: real files as streams, a multipart Parquet file, a partitioned data set, listings, moves, deletions."""

import hashlib
import os

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from stored import ENDPOINT, INPUT, client, holds, keys, require

BUCKET = "pyarrow-check"


def main():
    s3 = fs.S3FileSystem(endpoint_override=ENDPOINT, region="us-east-1", allow_bucket_creation=True, allow_bucket_deletion=True)
    s3.create_dir(BUCKET)
    for path in (path for path in INPUT.rglob("*") if path.is_file()):
        with s3.open_output_stream(f"{BUCKET}/in/{path.relative_to(INPUT)}") as out:
            out.write(path.read_bytes())
    # pyarrow marks folders by empty objects; they are no files.
    for marker in [key for key in keys(BUCKET) if key.endswith("/")]:
        client().delete_object(Bucket=BUCKET, Key=marker)
    holds(BUCKET, "in/", INPUT)

    noise = [hashlib.sha256(str(n).encode()).digest() for n in range(500_000)]
    table = pa.table({"id": range(len(noise)), "noise": noise, "kind": [n % 4 for n in range(len(noise))]})
    pq.write_table(table, f"{BUCKET}/big.parquet", filesystem=s3, row_group_size=50_000)
    etag = client().head_object(Bucket=BUCKET, Key="big.parquet")["ETag"]
    require("-" in etag, f"not sent in parts: {etag}")
    require(pq.read_table(f"{BUCKET}/big.parquet", filesystem=s3).equals(table), "a Parquet file differs")
    one = ds.dataset(f"{BUCKET}/big.parquet", filesystem=s3).to_table(filter=ds.field("id") == 432_100)
    require(one["noise"][0].as_py() == noise[432_100], "one row differs")

    ds.write_dataset(table, f"{BUCKET}/set", filesystem=s3, format="parquet", partitioning=["kind"])
    found = ds.dataset(f"{BUCKET}/set", filesystem=s3, partitioning=["kind"])
    require(found.count_rows() == len(noise) and found.count_rows(filter=ds.field("kind") == 1) == len(noise) // 4, "rows")

    with s3.open_input_file(f"{BUCKET}/in/large.bin") as file:
        file.seek(9_999_990)
        require(file.read(20) == (INPUT / "large.bin").read_bytes()[9_999_990:10_000_010], "a range differs")
    s3.move(f"{BUCKET}/in/large.bin", f"{BUCKET}/moved")
    listed = s3.get_file_info(fs.FileSelector(BUCKET, recursive=False))
    require({os.path.basename(row.path) for row in listed} == {"in", "set", "big.parquet", "moved"}, f"{listed}")
    s3.delete_dir(BUCKET)


main()
