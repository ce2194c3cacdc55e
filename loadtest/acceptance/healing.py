#!/usr/bin/env python3
"""A storage node that stays away is replaced: its drives' slots go to others, what it held is made anew there, and an audit of all
shards finds none missing.

    healing.py --stele target/debug/stele --work DIR
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


def client(site):
    return boto3.client(
        "s3", endpoint_url=site.gateways[0].s3, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
        region_name="us-east-1", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def counter(node, name):
    with urllib.request.urlopen(f"http://{node.address}:{cluster.ADMIN}/metrics", timeout=10) as answer:
        rows = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return sum(float(value) for key, value in rows if key.split("{")[0] == name)


class Site(cluster.Cluster):
    """With two drives a node, so that a lost one's slots have somewhere to go."""

    def __init__(self, stele, work):
        super().__init__(stele, work, drives=2, network=Loopback())
        self.gateways = self.gateways[:1]
        self.anchor = cluster.Node(self, "a1", "anchor")

    @property
    def nodes(self):
        return [*super().nodes, *([self.anchor] if hasattr(self, "anchor") else [])]


def main():
    args = arguments(__doc__)
    for name, value in (("HEALING_REPLACE_AFTER", REPLACE), ("REPAIR_INTERVAL", "2s"), ("REPAIR_RATE", "0B")):
        cluster.SETTINGS[f"STELE_{name}"] = os.environ[f"STELE_{name}"] = value
    site = Site(pathlib.Path(args.stele).resolve(), args.work.resolve())
    site.found()
    site.wait_healthy(cluster.READY_SECONDS)
    s3, r, digests = client(site), random.Random(9), {}
    s3.create_bucket(Bucket=BUCKET)
    for n in range(40):
        body = r.randbytes(r.choice([300, 60_000, 2_000_000, 12_000_000]))
        s3.put_object(Bucket=BUCKET, Key=f"object-{n:02}", Body=body)
        digests[f"object-{n:02}"] = hashlib.sha256(body).hexdigest()
    others = site.storage[1:]
    begun = time.monotonic()
    site.storage[0].kill()
    moving = lambda: (site.status() or {"placement": {}})["placement"].get("moving_slots", 0)
    wait_until("slots move", 120, lambda: moving() > 0)
    say(f"{moving()} slots move {time.monotonic() - begun:.0f} s after a node was killed")
    made = lambda: sum(counter(node, "stele_repair_shards_total") for node in others)
    wait_until("shards are made anew", 120, lambda: made() > 0)
    last = -1
    while (now := made()) != last:
        last = now
        time.sleep(6)
    say(f"{now:.0f} shards made anew, {time.monotonic() - begun:.0f} s after the kill")
    for key, digest in digests.items():
        body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        require(hashlib.sha256(body).hexdigest() == digest, f"{key} has other bytes")
    # Every shard of every pack is asked for: none is left on the dead node only.
    environment = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET, AWS_ENDPOINT_URL=site.gateways[0].s3)
    command = [site.stele, "audit", "run", "--all", "-o", str(args.work / "audit")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    say(f"audit of all shards: exit code {done.returncode}, {done.stdout.strip().splitlines()[-3:]}")
    require(done.returncode == 0, f"shards are missing: {done.stdout[-3000:]} {done.stderr[-2000:]}")
    print(json.dumps({"bench": "healing", "shards": int(now), "moving_slots": moving()}))
    for node in [*site.gateways, site.anchor, *others, *site.metadata]:
        node.terminate()
    say("done")


if __name__ == "__main__":
    main()
