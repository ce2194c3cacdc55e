#!/usr/bin/env python3
"""What it costs to be a cluster: PUT and GET on 3 + 6 + 2 processes beside `stele dev`, both on this machine.

    cluster_bench.py --stele target/release/stele --work DIR [--seconds 2]

Both stores run all the time and erasure-code with rs-4-2 over six drives of one disk; each measurement is made
on one after the other, dev, cluster, cluster, dev, through one gateway over loopback, every GET compared byte for
byte. Prints one row of JSON for each size, operation and number of clients, with the CPU by role, and before them
what the idle processes of the cluster cost.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import cluster
from store import ACCESS, SECRET, Store, arguments, require, say

# Sizes, and how many clients. 64 clients with 64 MiB each would write 24 GB that no sweep has reclaimed yet.
CASES = (("4KiB", (1, 16, 64)), ("64KiB", (1, 16, 64)), ("1MiB", (1, 16, 64)), ("64MiB", (1, 16)))
IDLE_SECONDS = 20
ROLES = ("s3-gateway", "storage-node", "metadata")
# What a row says, as medians of two runs each.
FIGURES = ("ops_per_s", "mb_per_s", "p50_us", "server_cpu_ms_per_op", "server_cpu_s_per_gb")


class Loopback:
    """A network without faults: every host is an address of loopback."""

    def __init__(self):
        self.hosts = 0

    def host(self, _name):
        self.hosts += 1
        return f"127.77.0.{self.hosts}"

    def before(self, _name):
        return ()


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def idle(nodes):
    """CPU and memory of processes that nobody asks anything, by role."""
    before = {node: cpu_seconds(node.process.pid) for node in nodes}
    time.sleep(IDLE_SECONDS)
    for role in ROLES:
        members = [node for node in nodes if node.role == role]
        spent = [(cpu_seconds(node.process.pid) - before[node]) / IDLE_SECONDS * 100 for node in members]
        memory = [resident_mib(node.process.pid) for node in members]
        print(json.dumps({"bench": "idle process", "role": role, "processes": len(members),
                          "cpu_percent_of_a_core": round(statistics.mean(spent), 2),
                          "resident_mib": round(statistics.mean(memory), 1)}), flush=True)


def measure(loadtest, seconds, url, pids, size, clients):
    """Rows of put and get."""
    command = [loadtest, "bench", "--endpoint", url, "--sizes", size, "--clients", str(clients), "--ops", "put,get",
               "--seconds", str(seconds), "--server-pid", ",".join(f"{name}={pid}" for name, pid in pids)]
    keys = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=keys, timeout=600)
    require(done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}")
    rows = {row["op"]: row for row in json.loads(done.stdout)}
    failed = {op: row["errors"] for op, row in rows.items() if row["errors"]}
    require(not failed, f"{size} x{clients}: operations failed: {failed}")
    return rows


def row_of(op, size, clients, runs):
    """One row of two stores."""
    row = {"bench": "beside dev", "size": size, "op": op, "clients": clients}
    median = lambda store, get: statistics.median(get(run[op]) for run in runs[store])
    for figure in FIGURES:
        row[figure] = {store: median(store, lambda found: found[figure]) for store in runs}
    row["ops_per_s"]["ratio"] = row["ops_per_s"]["cluster"] / row["ops_per_s"]["dev"]
    row["server_cpu_s_per_gb"].update(
        {role: median("cluster", lambda found: found["cpu_s_per_gb"][role]) for role in ROLES})
    return row


def main():
    args = arguments(__doc__, ("--seconds", int, 2))
    stele = pathlib.Path(args.stele).resolve()
    loadtest, work = str(stele.parent / "stele-loadtest"), args.work.resolve()
    # Collection as in the cluster, so that both pay for it and neither fills the disk.
    dev = Store(str(stele), work / "dev", gc_interval=cluster.SETTINGS["STELE_GC_INTERVAL"],
                gc_grace=cluster.SETTINGS["STELE_GC_GRACE"])
    many = cluster.Cluster(stele, work, network=Loopback())
    many.found()
    many.wait_healthy(cluster.READY_SECONDS)
    say("both stores run")
    idle(many.nodes)
    stores = {
        "dev": (dev.url, [("dev", dev.pid)]),
        "cluster": (many.gateways[0].s3, [(node.role, node.process.pid) for node in many.nodes]),
    }
    for size, numbers in CASES:
        for clients in numbers:
            runs = {"dev": [], "cluster": []}
            for name in ("dev", "cluster", "cluster", "dev"):
                url, pids = stores[name]
                runs[name].append(measure(loadtest, args.seconds, url, pids, size, clients))
            for op in ("put", "get"):
                row = row_of(op, size, clients, runs)
                print(json.dumps(row), flush=True)
                say(f"{size} {op} x{clients}: {row['ops_per_s']}")
    many.all_run()
    many.terminate()
    dev.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
