#!/usr/bin/env python3
"""Evidence that ends, in a real cluster: 3 metadata, 6 storage nodes, a gateway and an anchor on loopback. Objects are put,
overwritten and deleted, evidence is kept for a second only, and after the erasure stele-verify judges bundles of keys whose
past is gone. Then the database files of every voter are searched, byte by byte, for salts, records and parts of records that
were erased: at once, and after thousands of further writes. The database overwrites nothing that it frees, so what is left
there is told and not judged; a voter that joins after the erasure must have none of it. Prints a row of JSON for each search.

    erasure.py --stele target/debug/stele --work DIR
"""

import json
import os
import pathlib
import subprocess
import time
import urllib.request

import boto3
from botocore.config import Config

import cluster
from cluster_bench import Loopback
from store import ACCESS, SECRET, arguments, require, say, wait_until

BUCKET = "evidence"
# The leading metadata node looks once a minute.
ERASED_SECONDS = 150
FILES = ("state.redb", "raft-log.redb")
# What the raft log holds at most: entries between two syncs of the rows, and those that are kept behind.
RAFT_ENTRIES = 11_000
# Bytes of a part of a record that are searched for.
PART = 32


class Site(cluster.Cluster):
    """A cluster with an anchor."""

    def __init__(self, stele, work):
        super().__init__(stele, work, network=Loopback())
        self.gateways = self.gateways[:1]
        self.anchor = cluster.Node(self, "a1", "anchor")

    @property
    def nodes(self):
        return [*super().nodes, *([self.anchor] if hasattr(self, "anchor") else [])]

    @property
    def s3(self):
        return boto3.client(
            "s3", endpoint_url=self.gateways[0].s3, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
            region_name="us-east-1", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def checkpoint(self):
        with urllib.request.urlopen(f"http://{self.gateways[0].address}:{cluster.ADMIN}/log/checkpoint", timeout=10) as answer:
            return int(answer.read().split(b"\n")[1])


class Auditor:
    """Bundles of keys, and what the verifier says of them."""

    def __init__(self, site, folder):
        self.site, self.folder = site, folder
        self.verifier = pathlib.Path(site.stele).with_name("stele-verify")

    def export(self, name, key, *words, bucket=BUCKET):
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET, RUST_BACKTRACE="0")
        environment["AWS_ENDPOINT_URL"] = self.site.gateways[0].s3
        command = [self.site.stele, "evidence", "export", f"s3://{bucket}/{key}", "-o", str(self.folder / name), *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)

    def bundle(self, name, key, *words, **where):
        done = self.export(name, key, *words, **where)
        require(done.returncode == 0, f"export of {key}: {done.stderr}")
        return self.folder / name

    def judge(self, bundle):
        done = subprocess.run([self.verifier, bundle, "--json"], capture_output=True, text=True, timeout=60)
        require(done.returncode == 0, f"{bundle}: {done.returncode} {done.stdout[-3000:]}{done.stderr}")
        return json.loads(done.stdout)


def contents(bundle):
    return json.loads((bundle / "stele-bundle.json").read_text())


def needles(bundle, key):
    """Salts and records that are to go, as they stand in the databases, by a name: all but of the version that exists."""
    objects = [object for object in contents(bundle)["objects"] if object["bucket"] == BUCKET]
    alive = max((object["index"] for object in objects if object["event"] == "put"), default=None) if key.startswith("stays") else None
    found = {}
    for object in objects:
        if object["index"] != alive:
            name = f"{object['event']} {object['index']} of {object['key']}"
            found[f"salt, {name}"] = bytes.fromhex(object["salt"])
            found[f"record, {name}"] = (bundle / object["record"]).read_bytes()
    return found


def with_parts(sought, others):
    """Besides, of each record a part that no other record has: overwritten in part, the rest is still telling."""
    records = {name: value for name, value in sought.items() if name.startswith("record")}
    parts = {}
    for name, value in records.items():
        pieces = (value[at : at + PART] for at in range(0, len(value) - PART + 1, 16))
        known = [other for at, other in records.items() if at != name] + others
        unique = [piece for piece in pieces if not any(piece in other for other in known)]
        require(unique, f"nothing tells {name} from others")
        parts["part" + name.removeprefix("record")] = [unique[0], unique[-1]]
    return {**{name: [value] for name, value in sought.items()}, **parts}


def searched(nodes, stage, sought):
    """Where they still stand, by file and kind of needle: how many of how many."""
    rows = []
    for node in nodes:
        for name in FILES:
            content = next(node.data.rglob(name)).read_bytes()
            kinds = {}
            for needle, values in sought.items():
                kind = needle.partition(",")[0]
                there, count = kinds.get(kind, (0, 0))
                kinds[kind] = (there + any(value in content for value in values), count + 1)
            row = {"bench": "erased bytes", "stage": stage, "voter": node.name, "file": name, "bytes": len(content)}
            row.update({kind: f"{there} of {count}" for kind, (there, count) in kinds.items()})
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def left(rows, file, kind):
    return sum(int(row[kind].split()[0]) for row in rows if row["file"] == file)


def commands(site, count):
    """So many entries of the raft log at least: one-key deletes of nothing need no drive and still are commands."""
    bench = pathlib.Path(site.stele).with_name("stele-loadtest")
    keys = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
    done = 0
    while done < count:
        words = [bench, "bench", "--endpoint", site.gateways[0].s3, "--sizes", "4KiB", "--clients", "32", "--ops", "put", "--seconds", "10"]
        ran = subprocess.run(words, capture_output=True, text=True, env=keys, timeout=300)
        require(ran.returncode == 0, f"load: {ran.stderr[-1000:]}")
        done += sum(row["count"] for row in json.loads(ran.stdout))
    return done


def main():
    args = arguments(__doc__)
    os.environ["STELE_ANCHOR_INTERVAL"] = "1s"
    cluster.SETTINGS["STELE_ANCHOR_INTERVAL"] = "1s"
    site = Site(pathlib.Path(args.stele).resolve(), args.work.resolve())
    site.found()
    site.wait_healthy(cluster.READY_SECONDS)
    auditor = Auditor(site, args.work.resolve())
    s3 = site.s3
    s3.create_bucket(Bucket=BUCKET)
    for n in range(20):
        s3.put_object(Bucket=BUCKET, Key=f"gone-{n}", Body=b"gone-%d" % n * 500)
        s3.put_object(Bucket=BUCKET, Key=f"stays-{n}", Body=b"first-%d" % n * 500)
    for n in range(20):
        s3.put_object(Bucket=BUCKET, Key=f"stays-{n}", Body=b"second-%d" % n * 500)
        s3.delete_object(Bucket=BUCKET, Key=f"gone-{n}")
    size = int(s3.head_object(Bucket=BUCKET, Key="stays-19")["ResponseMetadata"]["HTTPHeaders"]["x-stele-log"][2:]) + 2
    wait_until("a checkpoint of all", 60, lambda: site.checkpoint() >= size)
    sought, others = {}, []
    for n in range(20):
        for key in (f"gone-{n}", f"stays-{n}"):
            bundle = auditor.bundle(f"before-{key}", key, "--all-versions")
            auditor.judge(bundle)
            sought.update(needles(bundle, key))
            kept = [object for object in contents(bundle)["objects"] if key.startswith("stays") and object["event"] == "put"]
            if kept:
                others.append((bundle / max(kept, key=lambda object: object["index"])["record"]).read_bytes())
    erased_values = list(sought.values())
    sought = with_parts(sought, others)
    require(len(sought) >= 3 * 4 * 20, f"{len(sought)} salts and records")
    searched(site.metadata, "written", sought)
    # Rows get to the drive when they are synced as a snapshot, and only then is the raft log purged.
    count = commands(site, RAFT_ENTRIES)
    before = searched(site.metadata[:1], f"kept, {count} PUTs later", sought)
    require(left(before, "state.redb", "record") > 0, "the search finds no rows")

    began = time.monotonic()
    site.operate("keep-evidence", "1s")
    erased = lambda: auditor.export(f"try-{time.monotonic_ns()}", "gone-0", "--all-versions").returncode != 0
    wait_until("the evidence is erased", ERASED_SECONDS, erased)
    seconds = time.monotonic() - began
    say(f"erased {seconds:.0f} s after keep-evidence 1s")
    done = auditor.export("nothing", "gone-0", "--all-versions")
    require("NoSuchEvidence" in done.stderr or "404" in done.stderr, f"what is erased: {done.stderr}")
    wait_until("a checkpoint of the erasure", 60, lambda: auditor.export(f"ev-{time.monotonic_ns()}", "stays-0", "--all-versions").returncode == 0)
    bundle = auditor.bundle("after", "stays-0", "--all-versions")
    events = [(found["bucket"], found["key"], found["event"]) for found in contents(bundle)["objects"]]
    require(("stele:cluster", "erasure") in [event[:2] for event in events], f"no erasure in the bundle: {events}")
    report = auditor.judge(bundle)
    words = json.dumps(report)
    require("erased" in words, f"the verifier does not speak of the erasure: {words[:2000]}")
    require(not any(value.hex() in words for value in erased_values), "a salt or record in the report")
    for n in range(20):
        auditor.judge(auditor.folder / f"before-gone-{n}")
    say("bundles of before hold, and new ones show the erasure")

    searched(site.metadata[:1], "erased", sought)
    count = commands(site, RAFT_ENTRIES)
    searched(site.metadata, f"{count} PUTs after the erasure", sought)
    late = cluster.Node(site, "m4", "metadata")
    late.token = site.operate("token", "--role", "metadata").strip()
    late.start()
    late.wait_ready(time.monotonic() + cluster.READY_SECONDS)
    voters = lambda: [str(id) for id in (site.status() or {"metadata": {"voters": []}})["metadata"]["voters"]]
    wait_until("the new node has all rows and a vote", 120, lambda: str(late.id) in voters())
    late.terminate()
    rows = next(late.data.rglob("state.redb")).read_bytes()
    require(all(record in rows for record in others), "the new voter lacks records of versions that exist")
    new = searched([late], "joined after the erasure", sought)
    require(not any(left(new, file, kind) for file in FILES for kind in ("salt", "record", "part")), f"a new voter got erased bytes: {new}")
    for node in [*site.gateways, site.anchor, *site.storage, *site.metadata]:
        node.terminate()
    searched(site.metadata[:1], "stopped", sought)


if __name__ == "__main__":
    main()
