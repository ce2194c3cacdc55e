#!/usr/bin/env python3
"""Garbage collection of a cluster of processes: space comes back after deletes although the leader changes within the grace time,
removed versions come back from the trash whole, and what is purged goes at once.

    gc.py --stele target/debug/stele --work DIR
"""

import hashlib
import json
import os
import pathlib
import random
import subprocess
import time

import cluster
from cluster_bench import Loopback
from healing import client
from store import BUCKET, arguments, require, say, wait_until

OBJECTS, KEPT, SIZE = 40, 8, 1 << 20
GRACE = "6s"


class Beside(Loopback):
    """Addresses of its own, so that another cluster may run on this machine."""

    def host(self, _name):
        self.hosts += 1
        return f"127.78.0.{self.hosts}"


class Site(cluster.Cluster):
    """One gateway is enough."""

    def __init__(self, stele, work):
        super().__init__(stele, work, network=Beside())
        self.gateways = self.gateways[:1]

    def stele_json(self, *words):
        """A command on the cluster and its JSON."""
        command = [self.stele, *words, "--admin", str(self.admin_file), "--json"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        require(done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
        return json.loads(done.stdout)

    def gc(self):
        """What garbage collection says, or None while there is no leader."""
        command = [self.stele, "gc", "status", "--admin", str(self.admin_file), "--json"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def unique(self):
        status = self.gc()
        return status["unique"]["bytes"] if status else 1 << 60

    def live(self):
        """Bytes of living records on all drives."""
        return (self.status() or {}).get("live_bytes", 1 << 60)

    def runs(self):
        return (self.gc() or {"totals": {"runs": 0}})["totals"]["runs"]

    def wait_runs(self, count):
        """Until so many more runs have ended."""
        goal = self.runs() + count
        wait_until(f"{count} runs end", 120, lambda: self.runs() >= goal)


def whole(s3, bodies, keys):
    for key in keys:
        found = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        require(hashlib.sha256(found).digest() == hashlib.sha256(bodies[key]).digest(), f"{key} has other bytes")


def space_comes_back(site, s3, bodies):
    """Most is deleted, and the leader is killed while what it condemned waits."""
    for key, body in bodies.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    full, on_drives = site.unique(), site.live()
    gone, kept = list(bodies)[KEPT:], list(bodies)[:KEPT]
    for key in gone:
        s3.delete_object(Bucket=BUCKET, Key=key)
    condemned = lambda: ((site.gc() or {}).get("totals") or {}).get("condemned", 0)
    wait_until("packs are condemned", 120, lambda: condemned() > 0)
    before = site.gc()
    leader = site.leader()
    leader.kill()
    begun = time.monotonic()
    deleted = lambda: (site.gc() or before)["totals"]["deleted"]["packs"]
    wait_until("a new leader deletes", 120, lambda: deleted() >= len(gone))
    say(f"{deleted()} packs deleted {time.monotonic() - begun:.0f} s after the leader was killed")
    site.start_again([leader])
    after = site.gc()
    require(after["begun"] > before["begun"] and after["totals"]["pardoned"] == 0, f"{after}")
    share = KEPT / OBJECTS
    require(after["unique"]["bytes"] < full * share * 1.1, f"{after['unique']} of {full} bytes are still referred to")
    wait_until("drives hold what is live", 60, lambda: site.live() < on_drives * share * 1.1)
    say(f"of {full} bytes of packs {after['unique']['bytes']} are left, of {on_drives} on drives {site.live()}")
    whole(s3, bodies, kept)
    print(json.dumps({"bench": "gc", "unique_before": full, "unique_after": after["unique"]["bytes"],
                      "drives_before": on_drives, "drives_after": site.live()}))


def trash(site, s3, bodies):
    """What was removed by mistake."""
    site.stele_json("trash", "keep", "10min")
    mistake, replaced, secret = list(bodies)[:3]
    full = site.unique()
    s3.delete_object(Bucket=BUCKET, Key=mistake)
    s3.put_object(Bucket=BUCKET, Key=replaced, Body=b"a mistake")
    s3.delete_object(Bucket=BUCKET, Key=secret)
    site.wait_runs(4)
    require(site.unique() >= full, "what is in the trash is still referred to")
    rows = site.stele_json("trash", "list", "--bucket", BUCKET)["versions"]
    found = sorted((row["key"], row["bytes"], row["overwritten"]) for row in rows)
    require(found == sorted([(mistake, SIZE, False), (replaced, SIZE, True), (secret, SIZE, False)]), f"{found}")
    before = site.status()["log"]["size"]
    site.stele_json("trash", "restore", "--bucket", BUCKET, "--key", mistake)
    refused = subprocess.run([site.stele, "trash", "restore", "--admin", site.admin_file, "--bucket", BUCKET, "--key", replaced],
                             capture_output=True, text=True, timeout=60)
    require(refused.returncode != 0 and "replace it" in refused.stderr, f"{refused}")
    site.stele_json("trash", "restore", "--bucket", BUCKET, "--key", replaced, "--replace")
    whole(s3, bodies, [mistake, replaced])
    entries = site.status()["log"]["size"] - before
    require(entries >= 3, f"two creations and a removal are in the log, not {entries} entries")
    require(site.stele_json("trash", "purge", "--bucket", BUCKET, "--key", secret)["purged"] == 1, "one version is purged")
    keys = {row["key"] for row in site.stele_json("trash", "list")["versions"]}
    require(keys == {replaced}, f"only what the restore replaced is left: {keys}")
    goal = full - SIZE
    wait_until("the purged version's pack goes", 120, lambda: site.unique() <= goal + SIZE // 10)
    site.stele_json("trash", "keep", "off")
    wait_until("the trash is empty", 120, lambda: (site.gc() or {"trash_versions": 1})["trash_versions"] == 0)
    whole(s3, bodies, [mistake, replaced])
    say("removed versions came back whole, and what was purged did not")


def main():
    args = arguments(__doc__)
    for name, value in (("GC_INTERVAL", "2s"), ("GC_GRACE", GRACE)):
        cluster.SETTINGS[f"STELE_{name}"] = os.environ[f"STELE_{name}"] = value
    site = Site(pathlib.Path(args.stele).resolve(), args.work.resolve())
    site.found()
    site.wait_healthy(cluster.READY_SECONDS)
    s3, r = client(site), random.Random(65)
    s3.create_bucket(Bucket=BUCKET)
    bodies = {f"object-{n:02}": r.randbytes(SIZE) for n in range(OBJECTS)}
    space_comes_back(site, s3, bodies)
    trash(site, s3, bodies)
    site.all_run()
    site.terminate()
    say("done")


if __name__ == "__main__":
    main()
