#!/usr/bin/env python3
"""What S3's smaller requests cost, and what TLS costs, over loopback.

    requests_bench.py --stele target/release/stele --work DIR [--seconds 2]

One store speaks HTTP, one HTTPS; both run all the time over six drives of one disk. What is compared is measured
in the order A, B, B, A, and medians are shown. Prints one row of JSON each:

- `request`: HEAD, an unchanged GET (304), a page of 100 versions, a copy and a multi-delete of 1,000 keys, on
  objects of 4 KiB, and HEAD and copy of 1 GiB;
- `copy of 1 GiB`: its median beside that of a HEAD, and the bytes the drives wrote for it;
- `TLS`: PUT and GET, HTTPS beside HTTP.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

from store import ACCESS, SECRET, Store, arguments, require, say

SMALL = "put,head,get-unchanged,versions,copy,delete-many"
GIB = 1 << 30
FIGURES = ("ops_per_s", "mb_per_s", "p50_us", "server_cpu_ms_per_op", "server_cpu_s_per_gb")


def bench(loadtest, store, seconds, *flags):
    """Rows of stele-loadtest bench, none of which may have an error."""
    command = [loadtest, "bench", "--endpoint", store.url, "--seconds", str(seconds), "--server-pid", str(store.pid), *flags]
    if store.ca:
        command += ["--ca", store.ca]
    keys = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=keys, timeout=900)
    require(done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}")
    rows = json.loads(done.stdout)
    failed = [(row["op"], row["errors"]) for row in rows if row["errors"]]
    require(not failed, f"operations failed: {failed}")
    return rows


def show(row):
    print(json.dumps(row), flush=True)
    say(str(row))


def written_bytes(store):
    """Bytes that this process has written to files."""
    lines = pathlib.Path(f"/proc/{store.pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def small_requests(loadtest, store, seconds):
    for clients in ("1", "16"):
        for row in bench(loadtest, store, seconds, "--sizes", "4KiB", "--clients", clients, "--ops", SMALL):
            wanted = ("op", "clients", "count", "ops_per_s", "p50_us", "p99_us", "server_cpu_ms_per_op")
            show({"bench": "request", "size": "4KiB", **{name: row.get(name) for name in wanted}})


def copies_of_a_gib(loadtest, store, seconds):
    flags = ("--sizes", "1GiB", "--clients", "1", "--max-written", "1GiB")
    bench(loadtest, store, seconds, *flags, "--ops", "put", "--keep")
    before = written_bytes(store)
    # Every run writes its own object of 1 GiB first: what counts is what the copies write beyond that.
    found = {"head": [], "copy": []}
    for ops in ("put,head,copy", "put,copy,head", "put,copy,head", "put,head,copy"):
        for row in bench(loadtest, store, seconds, *flags, "--ops", ops):
            if row["op"] in found:
                found[row["op"]].append(row)
    put = 4 * GIB
    copies = sum(row["count"] for row in found["copy"])
    p50 = {op: statistics.median(row["p50_us"] for row in rows) for op, rows in found.items()}
    cpu = {op: statistics.median(row["server_cpu_ms_per_op"] for row in rows) for op, rows in found.items()}
    show({"bench": "copy of 1 GiB", "copies": copies, "p50_us": p50, "server_cpu_ms_per_op": cpu,
          "copy_over_head": p50["copy"] / p50["head"],
          "bytes_written_for_4_puts_and_all_copies_over_4_gib": (written_bytes(store) - before) / put})


def tls_beside_plain(loadtest, stores, seconds):
    for size, clients in (("4KiB", "16"), ("1MiB", "16"), ("64MiB", "1")):
        runs = {name: [] for name in stores}
        for name in ("plain", "tls", "tls", "plain"):
            rows = bench(loadtest, stores[name], seconds, "--sizes", size, "--clients", clients, "--ops", "put,get")
            runs[name].append({row["op"]: row for row in rows})
        for op in ("put", "get"):
            row = {"bench": "TLS", "size": size, "op": op, "clients": int(clients)}
            for figure in FIGURES:
                row[figure] = {n: statistics.median(run[op][figure] for run in found) for n, found in runs.items()}
            row["ops_per_s"]["ratio"] = row["ops_per_s"]["tls"] / row["ops_per_s"]["plain"]
            show(row)


def main():
    args = arguments(__doc__, ("--seconds", int, 2))
    stele = pathlib.Path(args.stele).resolve()
    loadtest, work = str(stele.parent / "stele-loadtest"), args.work.resolve()
    settings = {"gc_interval": "5s", "gc_grace": "10s"}
    stores = {
        "plain": Store(str(stele), work / "plain", **settings),
        "tls": Store(str(stele), work / "tls", s3_tls_local="true", **settings),
    }
    small_requests(loadtest, stores["plain"], args.seconds)
    copies_of_a_gib(loadtest, stores["plain"], args.seconds)
    tls_beside_plain(loadtest, stores, args.seconds)
    for store in stores.values():
        store.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
