"""DuckDB httpfs: writes Parquet in parts, reads it back by ranges, globs, partitions, and reads what pyarrow wrote."""

import os
import pathlib
from urllib.parse import urlsplit

import duckdb
import duckdb_extension_httpfs
import pyarrow as pa
import pyarrow.parquet as pq

from stored import ENDPOINT, client, keys, require

BUCKET = "duckdb-check"
ROWS = 2_000_000


def main():
    s3 = client()
    s3.create_bucket(Bucket=BUCKET)
    endpoint = urlsplit(ENDPOINT)
    db = duckdb.connect(config={"allow_unsigned_extensions": True})
    extension = next(pathlib.Path(duckdb_extension_httpfs.__path__[0]).rglob("httpfs.duckdb_extension"))
    db.execute(f"LOAD '{extension}'")
    if "AWS_CA_BUNDLE" in os.environ:
        db.execute(f"SET ca_cert_file = '{os.environ['AWS_CA_BUNDLE']}'")
    db.execute(
        f"CREATE SECRET (TYPE s3, ENDPOINT '{endpoint.netloc}', URL_STYLE 'path', USE_SSL {endpoint.scheme == 'https'},"
        f" KEY_ID '{os.environ['AWS_ACCESS_KEY_ID']}', SECRET '{os.environ['AWS_SECRET_ACCESS_KEY']}', REGION 'us-east-1')"
    )
    # Parts of 5 MB, the smallest.
    db.execute("SET s3_uploader_max_filesize = '50GB'")
    db.execute(
        f"COPY (SELECT range AS id, hash(range) AS noise, range % 3 AS kind FROM range({ROWS}))"
        f" TO 's3://{BUCKET}/big.parquet' (ROW_GROUP_SIZE 100000)"
    )
    head = s3.head_object(Bucket=BUCKET, Key="big.parquet")
    require(head["ETag"].rstrip('"').rpartition("-")[2].isdigit(), f"not sent in parts: {head['ETag']}")
    found = db.sql(f"SELECT count(*), sum(id), bit_xor(noise) FROM 's3://{BUCKET}/big.parquet'").fetchone()
    wanted = db.sql(f"SELECT count(*), sum(range), bit_xor(hash(range)) FROM range({ROWS})").fetchone()
    require(found == wanted, f"{found}, not {wanted}")
    # One row group of many: read by ranges.
    one = db.sql(f"SELECT noise = hash(1234567) FROM 's3://{BUCKET}/big.parquet' WHERE id = 1234567").fetchone()
    require(one == (True,), f"one row reads {one}")

    db.execute(f"COPY (FROM 's3://{BUCKET}/big.parquet') TO 's3://{BUCKET}/parts' (FORMAT parquet, PARTITION_BY (kind))")
    require({key.split("/")[1] for key in keys(BUCKET, "parts/")} == {"kind=0", "kind=1", "kind=2"}, f"{keys(BUCKET)}")
    kinds = db.sql(
        f"SELECT kind, count(*) FROM read_parquet('s3://{BUCKET}/parts/**/*.parquet', hive_partitioning = true)"
        " GROUP BY kind ORDER BY kind"
    ).fetchall()
    require([count for _, count in kinds] == [666667, 666667, 666666], f"{kinds}")

    pq.write_table(pa.table({"id": range(1000)}), "foreign.parquet")
    s3.upload_file("foreign.parquet", BUCKET, "foreign.parquet")
    require(db.sql(f"SELECT sum(id) FROM 's3://{BUCKET}/foreign.parquet'").fetchone() == (499500,), "a foreign file differs")
    # Over HTTP alone, without credentials, nothing is given away.
    try:
        db.sql(f"SELECT * FROM '{ENDPOINT}/{BUCKET}/foreign.parquet'").fetchall()
        require(False, "an anonymous read went through")
    except duckdb.HTTPException:
        pass


main()
