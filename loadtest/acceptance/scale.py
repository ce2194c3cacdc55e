#!/usr/bin/env python3
"""A cluster of six storage nodes becomes one of nine and of six again, under a verified load, and is not made one of five.

    scale.py --stele target/debug/stele --work DIR [--megabytes 200]

Bytes that move are counted against the least that must: the new nodes' share of what was stored before, and the leaving nodes'. What the
load writes meanwhile is little, and counts as too much.
"""

import hashlib
import json
import os
import pathlib
import random
import subprocess
import threading
import time

import boto3
from botocore.config import Config

import cluster
from cluster_bench import Loopback
from healing import audit, counter
from store import ACCESS, BUCKET, SECRET, arguments, require, say, wait_until

# Moved bytes, of the least that must move.
MOVED_MAX = 1.2
SETTLE = "3s"
# The leader looks every second, and rebalances once things have settled.
QUIET_SECONDS = 8
# Of a group of rs-4-2; and of an object of the load, which is rs-1-2.
SLOTS, COPIES = 6, 3


def client(url):
    return boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET, region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, read_timeout=60),
    )


class Site(cluster.Cluster):
    """Six storage nodes to begin with, three more later, and an anchor for audits."""

    def __init__(self, stele, work):
        super().__init__(stele, work, network=Loopback())
        self.gateways = self.gateways[:1]
        self.anchor = cluster.Node(self, "a1", "anchor")

    @property
    def nodes(self):
        return [*super().nodes, *([self.anchor] if hasattr(self, "anchor") else [])]

    def join(self, count):
        more = [cluster.Node(self, f"s{n}", "storage-node", self.drives(n, 1)) for n in range(7, 7 + count)]
        self.storage += more
        for node in more:
            node.token = self.operate("token", "--role", "storage-node").strip()
            node.start()
        self.wait_ready(more)
        return more

    def moved(self, nodes):
        """Bytes written by repair; copies are read once and written once."""
        return sum(counter(node, "stele_repair_moved_bytes_total") for node in nodes) / 2

    def plan(self, *words):
        command = [self.stele, "plan", *map(str, words), "--admin", str(self.admin_file), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=cluster.environment("operator"))
        require(done.returncode in (0, 1), f"{command}: {done.stderr}")
        return json.loads(done.stdout), done.returncode

    def held(self, nodes):
        """Live bytes on the drives of these nodes."""
        prefixes = tuple(f"{node.address}:" for node in nodes)
        return sum(drive["live_bytes"] for drive in self.status()["drives"] if drive["name"].startswith(prefixes))

    def settled(self):
        """Nothing moves, and nothing begins to for a while: between two rounds of moves there may be none."""
        end = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < end:
            placement = (self.status() or {"placement": {}})["placement"]
            if placement.get("moving_slots") != 0 or placement.get("lowest_tolerance") != 2:
                return False
            time.sleep(0.5)
        return True


class Load(threading.Thread):
    """Writes small objects, reads them and older ones back, until it is told to stop. Every difference counts."""

    def __init__(self, url, digests, prefix):
        super().__init__(daemon=True)
        self.prefix = prefix
        self.s3, self.digests, self.random = client(url), digests, random.Random(3)
        self.done, self.written, self.bytes, self.read, self.faults = threading.Event(), 0, 0, 0, []

    def run(self):
        own = {}
        while not self.done.is_set():
            key = f"{self.prefix}-{self.written:05d}"
            body = self.random.randbytes(self.random.choice([200, 2000, 9_000]))
            try:
                self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
                own[key] = hashlib.sha256(body).hexdigest()
                self.written += 1
                self.bytes += COPIES * len(body)
                for key, digest in (self.random.choice(list(own.items())), self.random.choice(list(self.digests.items()))):
                    found = hashlib.sha256(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()).hexdigest()
                    self.read += 1
                    if found != digest:
                        self.faults.append(f"{key} has other bytes")
            except Exception as error:  # Whatever a client is told is a fault here: nothing is broken.
                self.faults.append(f"{key}: {error}")
            self.done.wait(0.05)
        self.digests.update(own)


def under_load(site, digests, change):
    load = Load(site.gateways[0].s3, digests, f"load-{len(digests)}")
    load.start()
    began = time.monotonic()
    change()
    seconds = time.monotonic() - began
    load.done.set()
    load.join(120)
    require(not load.is_alive(), "the load does not end")
    require(not load.faults, f"{len(load.faults)} faults under load: {load.faults[:3]}")
    require(load.written > 20, f"only {load.written} writes in {seconds:.0f} s")
    return seconds, load


def verify(site, digests):
    s3 = client(site.gateways[0].s3)
    for key, digest in sorted(digests.items()):
        body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        require(hashlib.sha256(body).hexdigest() == digest, f"{key} has other bytes")


def main():
    args = arguments(__doc__, ("--megabytes", int, 200))
    for name, value in (("HEALING_SETTLE", SETTLE), ("REPAIR_INTERVAL", "2s"), ("REPAIR_RATE", "0B")):
        cluster.SETTINGS[f"STELE_{name}"] = os.environ[f"STELE_{name}"] = value
    site = Site(pathlib.Path(args.stele).resolve(), args.work.resolve())
    site.found()
    site.wait_healthy(cluster.READY_SECONDS)
    s3, r, digests = client(site.gateways[0].s3), random.Random(9), {}
    s3.create_bucket(Bucket=BUCKET)
    left = args.megabytes * 1_000_000
    while left > 0:
        body = r.randbytes(r.choice([300, 60_000, 2_000_000, 9_000_000]))
        key, left = f"object-{len(digests):04d}", left - len(body)
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        digests[key] = hashlib.sha256(body).hexdigest()

    stored = site.held(site.storage)
    plan, code = site.plan("add", "--nodes", 3)
    require(code == 0 and 0.25 < plan["bytes"] / stored < 0.42, f"a third should move: {plan}")
    new = []

    def grow():
        new.extend(site.join(3))
        wait_until("slots move to the new nodes", 60, lambda: site.status()["placement"]["moving_slots"] > 0)
        wait_until("the new nodes have their share", 600, lambda: site.settled() and site.held(new) > 0)

    before = site.moved(site.storage)
    seconds, load = under_load(site, digests, grow)
    moved, least = site.moved(site.storage) - before, stored / 3
    say(f"6 to 9 nodes in {seconds:.0f} s: {moved / 1e6:.0f} MB moved, a third is {least / 1e6:.0f} MB; "
        f"{load.written} writes and {load.read} reads meanwhile")
    require(0.8 * least < moved <= MOVED_MAX * least, f"{moved / least:.2f} times the least that must move")
    grown = {"bench": "scale_out", "seconds": round(seconds), "moved_bytes": int(moved), "of_least": round(moved / least, 3)}

    leaving, ids = site.storage[:3], [node.id for node in site.storage[:3]]
    plan, code = site.plan("drain", *ids)
    require(code == 0, f"three of nine may leave: {plan}")
    slots = site.status()["placement"]["groups"] * SLOTS
    least, before = (stored + load.bytes) * plan["slots"] / slots, site.moved(site.storage)
    seconds, load = under_load(site, digests, lambda: drain(site, ids))
    moved = site.moved(site.storage) - before
    say(f"9 to 6 nodes in {seconds:.0f} s: {moved / 1e6:.0f} MB moved, their share is {least / 1e6:.0f} MB; "
        f"{load.written} writes and {load.read} reads meanwhile")
    require(moved <= MOVED_MAX * least, f"{moved / least:.2f} times the least that must move")
    for node in leaving:
        site.operate("remove", node.id)
        node.terminate()
    site.storage = site.storage[3:]
    wait_until("no problem is named", 60, lambda: site.settled() and not site.status()["problems"])

    plan, code = site.plan("drain", site.storage[0].id)
    require(code == 1 and "first" in plan["refused"], f"six nodes became five: {plan}")
    refused = subprocess.run(
        [site.stele, "cluster", "drain", "--admin", str(site.admin_file), str(site.storage[0].id)],
        capture_output=True, text=True, timeout=60, env=cluster.environment("operator"))
    require(refused.returncode != 0 and "nothing was changed" in refused.stderr, f"not refused: {refused.stderr}")
    say(f"6 to 5 nodes: {refused.stderr.strip()}")
    verify(site, digests)
    audit(site, args.work)
    print(json.dumps(grown))
    print(json.dumps({"bench": "scale_in", "seconds": round(seconds), "moved_bytes": int(moved), "of_least": round(moved / least, 3)}))
    for node in [*site.gateways, site.anchor, *site.storage, *site.metadata]:
        node.terminate()
    say("done")


def drain(site, ids):
    command = [site.stele, "cluster", "drain", "--admin", str(site.admin_file), "--wait", *map(str, ids)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=cluster.environment("operator"))
    require(done.returncode == 0, f"{command}: {done.stderr}")


if __name__ == "__main__":
    main()
