"""Lance: six processes append to one table at the same time by conditional writes; none is lost. Then an index,
a search, a delete and old versions."""

import multiprocessing

import lance
import pyarrow as pa

from stored import ENDPOINT, client, require

BUCKET, URI = "lance-check", "s3://lance-check/table.lance"
OPTIONS = {"aws_endpoint": ENDPOINT} | ({"allow_http": "true"} if ENDPOINT.startswith("http:") else {})
WRITERS, COMMITS, ROWS, WIDTH = 6, 8, 100, 16


def rows(writer, commit):
    first = (writer * COMMITS + commit) * ROWS
    ids = range(first, first + ROWS)
    vectors = pa.array([[float((n * 31 + d * 7) % 101) for d in range(WIDTH)] for n in ids], pa.list_(pa.float32(), WIDTH))
    return pa.table({"id": ids, "vector": vectors})


def write(writer):
    for commit in range(COMMITS):
        lance.write_dataset(rows(writer, commit), URI, mode="append", storage_options=OPTIONS)


def main():
    client().create_bucket(Bucket=BUCKET)
    lance.write_dataset(rows(0, 0).slice(0, 0), URI, storage_options=OPTIONS)
    with multiprocessing.get_context("spawn").Pool(WRITERS) as pool:
        pool.map(write, range(WRITERS), chunksize=1)
    table = lance.dataset(URI, storage_options=OPTIONS)
    ids = sorted(table.to_table(columns=["id"])["id"].to_pylist())
    require(ids == list(range(WRITERS * COMMITS * ROWS)), f"{len(ids)} rows, {len(set(ids))} different")
    require(table.version == WRITERS * COMMITS + 1, f"version {table.version}")

    wanted = rows(2, 3)["vector"][50].as_py()
    near = table.to_table(nearest={"column": "vector", "q": wanted, "k": 1})
    require(near["vector"][0].as_py() == wanted, "a search finds another vector")
    table.delete("id < 100")
    require(lance.dataset(URI, storage_options=OPTIONS).count_rows() == len(ids) - 100, "the delete is not there")
    old = lance.dataset(URI, version=WRITERS * COMMITS + 1, storage_options=OPTIONS)
    require(old.count_rows() == len(ids), "an old version changed")


if __name__ == "__main__":
    main()
