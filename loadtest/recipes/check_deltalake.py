"""Delta Lake: six processes commit to one table at the same time by conditional writes. No commit is lost, none is
there twice, and the log has no gap. Then a merge, a delete, an optimize and a vacuum."""

import multiprocessing

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, write_deltalake

from stored import ENDPOINT, client, keys, require

BUCKET, URI = "deltalake-check", "s3://deltalake-check/table"
OPTIONS = {"allow_http": "true", "conditional_put": "etag"} if ENDPOINT.startswith("http:") else {"conditional_put": "etag"}
WRITERS, COMMITS, ROWS = 6, 8, 100


def rows(writer, commit):
    first = (writer * COMMITS + commit) * ROWS
    return pa.table({"id": range(first, first + ROWS), "writer": [writer] * ROWS})


def stored():
    # Not to_pyarrow_table(): its threads call into Python and may end the interpreter badly.
    table = DeltaTable(URI, storage_options=OPTIONS)
    return pa.table(QueryBuilder().register("t", table).execute("SELECT id, writer FROM t ORDER BY id").read_all())


def write(writer):
    # A commit that finds its number taken tries the next: that is Delta's protocol. Losing all those races in a row
    # must not be what ends the test.
    patient = CommitProperties(max_commit_retries=200)
    for commit in range(COMMITS):
        write_deltalake(URI, rows(writer, commit), mode="append", storage_options=OPTIONS, commit_properties=patient)


def main():
    client().create_bucket(Bucket=BUCKET)
    write_deltalake(URI, rows(0, 0).slice(0, 0), storage_options=OPTIONS)
    with multiprocessing.get_context("spawn").Pool(WRITERS) as pool:
        pool.map(write, range(WRITERS), chunksize=1)
    table = DeltaTable(URI, storage_options=OPTIONS)
    require(table.version() == WRITERS * COMMITS, f"version {table.version()} after {WRITERS * COMMITS} commits")
    ids = stored()["id"].to_pylist()
    require(ids == list(range(WRITERS * COMMITS * ROWS)), f"{len(ids)} rows, {len(set(ids))} different")
    log = [key for key in keys(BUCKET, "table/_delta_log/") if key.endswith(".json") and "/_" not in key.split("_delta_log/")[1]]
    require(len(log) == WRITERS * COMMITS + 1, f"{len(log)} entries in the log")

    update = pa.table({"id": [0, 10_000_000], "writer": [99, 99]})
    merge = table.merge(update, predicate="t.id = s.id", source_alias="s", target_alias="t")
    merge.when_matched_update_all().when_not_matched_insert_all().execute()
    table.delete("id = 1")
    table.optimize.compact()
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    found = stored()
    require(found.num_rows == len(ids), f"{found.num_rows} rows after a merge and a delete")
    require(found["writer"].to_pylist().count(99) == 2, "the merge is not there")


if __name__ == "__main__":
    main()
