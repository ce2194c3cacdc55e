#!/usr/bin/env python3
"""A storage node that stays away is replaced: its drives' slots go to others, what it held is made anew there, the slots are handed
over, and an audit of all shards finds none missing. Then as many may be lost as before: another node is.

    healing.py --stele target/debug/stele --work DIR [--losses 2]
"""

import hashlib
import json
import os
import pathlib
import random
import subprocess
import time
import urllib.request

import boto3
from botocore.config import Config

import cluster
from cluster_bench import Loopback
from store import ACCESS, BUCKET, SECRET, arguments, require, say, wait_until

REPLACE = "5s"
OBJECTS = 40
SIZES = [300, 60_000, 2_000_000, 12_000_000]
HANDED_OVER_SECONDS = 420


def client(site):
    return boto3.client(
        "s3", endpoint_url=site.gateways[0].s3, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
        region_name="us-east-1", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def counter(node, name):
    with urllib.request.urlopen(f"http://{node.address}:{cluster.ADMIN}/metrics", timeout=10) as answer:
        rows = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return sum(float(value) for key, value in rows if key.split("{")[0] == name)


def audit(site, work):
    """Every shard of every pack is asked for."""
    environment = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET, AWS_ENDPOINT_URL=site.gateways[0].s3)
    number = len(list(work.glob("audit-*")))
    command = [site.stele, "audit", "run", "--all", "-o", str(work / f"audit-{number}")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    say(f"audit of all shards: exit code {done.returncode}, {done.stdout.strip().splitlines()[-3:]}")
    require(done.returncode == 0, f"shards are missing: {done.stdout[-3000:]} {done.stderr[-2000:]}")


class Site(cluster.Cluster):
    """With two drives a node, so that a lost one's slots have somewhere to go."""

    def __init__(self, stele, work):
        super().__init__(stele, work, drives=2, network=Loopback())
        self.gateways = self.gateways[:1]
        self.anchor = cluster.Node(self, "a1", "anchor")

    @property
    def nodes(self):
        return [*super().nodes, *([self.anchor] if hasattr(self, "anchor") else [])]

    def placement(self):
        return (self.status() or {"placement": {}})["placement"]


def lose(site, node, alive):
    """Kills a node and waits until nothing is owed any more. Shards made anew, slots handed over, seconds."""
    count = lambda name: sum(counter(other, name) for other in alive)
    shards, slots = count("stele_repair_shards_total"), count("stele_repair_moved_slots_total")
    began = time.monotonic()
    node.kill()
    wait_until("slots move", 120, lambda: site.placement().get("moving_slots", 0) > 0)
    say(f"{site.placement()['moving_slots']} slots move {time.monotonic() - began:.0f} s after {node.name} was killed")
    whole = lambda: site.placement().get("moving_slots") == 0 and site.placement().get("lowest_tolerance") == 2
    wait_until("every slot is handed over", HANDED_OVER_SECONDS, whole)
    seconds = time.monotonic() - began
    shards, slots = count("stele_repair_shards_total") - shards, count("stele_repair_moved_slots_total") - slots
    say(f"{shards:.0f} shards made anew, {slots:.0f} slots handed over, full tolerance {seconds:.0f} s after the kill")
    require(shards > 0 and slots > 0, "nothing was made")
    site.operate("remove", node.id)
    return {"lost": node.name, "shards": int(shards), "slots": int(slots), "full_tolerance_seconds": round(seconds)}


def main():
    args = arguments(__doc__, ("--losses", int, 2))
    for name, value in (("HEALING_REPLACE_AFTER", REPLACE), ("REPAIR_INTERVAL", "2s"), ("REPAIR_RATE", "0B")):
        cluster.SETTINGS[f"STELE_{name}"] = os.environ[f"STELE_{name}"] = value
    site = Site(pathlib.Path(args.stele).resolve(), args.work.resolve())
    site.found()
    site.wait_healthy(cluster.READY_SECONDS)
    s3, r, digests = client(site), random.Random(9), {}
    s3.create_bucket(Bucket=BUCKET)
    for n in range(OBJECTS):
        body = r.randbytes(r.choice(SIZES))
        s3.put_object(Bucket=BUCKET, Key=f"object-{n:02}", Body=body)
        digests[f"object-{n:02}"] = hashlib.sha256(body).hexdigest()
    rows, alive = [], list(site.storage)
    for node in site.storage[: args.losses]:
        alive.remove(node)
        rows.append(lose(site, node, alive))
        for key, digest in digests.items():
            body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            require(hashlib.sha256(body).hexdigest() == digest, f"{key} has other bytes")
        audit(site, args.work)
    for row in rows:
        print(json.dumps({"bench": "healing", **row}))
    for node in [*site.gateways, site.anchor, *alive, *site.metadata]:
        node.terminate()
    say("done")


if __name__ == "__main__":
    main()
