#!/usr/bin/env python3
"""Evidence that ends after it was archived, in a real cluster: objects are put, overwritten and deleted, so many entries follow
that theirs move into an archive, and evidence is kept for a second only. Then nothing of what was removed can be had, a key
that lives shows the hole and the erasure, bundles of before hold, and the archive was made anew: neither salt nor record is in any
object of the store's bucket.

    erasure_archived.py --stele target/debug/stele --work DIR
"""

import json
import os
import pathlib
import urllib.error
import urllib.request

import cluster
from erasure import BUCKET, Auditor, Site, contents, needles
from log_archives import ENTRIES, KEYS
from store import arguments, require, say, wait_until

KEPT = 5
PATIENCE = 600


def grow(s3, entries):
    """Delete markers of absent keys: an entry each, and no body."""
    keys = [{"Key": f"absent/{n:04}"} for n in range(KEYS)]
    for _ in range(entries // KEYS + 1):
        done = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": keys, "Quiet": True})
        require(not done.get("Errors"), f"markers: {done.get('Errors')}")


def archives(s3):
    """Bytes of all archives, by key."""
    if "stele-log" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        return {}
    rows = s3.list_objects_v2(Bucket="stele-log", Prefix="log/").get("Contents", [])
    return {row["Key"]: s3.get_object(Bucket="stele-log", Key=row["Key"])["Body"].read() for row in rows}


def moved(site, index):
    """Whether the first entries have no rows: a metadata node then sends readers to a gateway."""
    try:
        with urllib.request.urlopen(f"http://{site.metadata[0].address}:{cluster.ADMIN}/log/tile/0/{index:03}", timeout=10):
            return False
    except urllib.error.HTTPError as error:
        return error.code == 503


def main():
    args = arguments(__doc__)
    cluster.SETTINGS["STELE_ANCHOR_INTERVAL"] = os.environ["STELE_ANCHOR_INTERVAL"] = "1s"
    site = Site(pathlib.Path(args.stele).resolve(), args.work.resolve())
    site.found()
    site.wait_healthy(cluster.READY_SECONDS)
    auditor, s3 = Auditor(site, args.work.resolve()), site.s3
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    for n in range(KEPT):
        s3.put_object(Bucket=BUCKET, Key=f"gone-{n}", Body=b"gone-%d" % n * 500)
        s3.put_object(Bucket=BUCKET, Key=f"stays-{n}", Body=b"first-%d" % n * 500)
        s3.put_object(Bucket=BUCKET, Key=f"stays-{n}", Body=b"second-%d" % n * 500)
        s3.delete_object(Bucket=BUCKET, Key=f"gone-{n}", VersionId="null")
    grow(s3, 2 * ENTRIES + 3000)
    wait_until("a checkpoint of two archives' worth", 120, lambda: site.checkpoint() >= 2 * ENTRIES)
    wait_until("an archive", PATIENCE, lambda: bool(archives(s3)) and moved(site, 255))
    sought = {}
    for n in range(KEPT):
        for key in (f"gone-{n}", f"stays-{n}"):
            bundle = auditor.bundle(f"before-{key}", key, "--all-versions")
            auditor.judge(bundle)
            sought.update(needles(bundle, key))
    require(len(sought) >= 2 * 3 * KEPT, f"{len(sought)} salts and records")
    first = archives(s3)
    held = [name for name, value in sought.items() if any(value in body for body in first.values())]
    require(len(held) == len(sought), f"the archive has {len(held)} of {len(sought)} salts and records")
    say(f"{len(sought)} salts and records stand in {', '.join(first)}")

    site.operate("keep-evidence", "1s")
    erased = lambda: auditor.export("try", "gone-0", "--all-versions").returncode != 0
    wait_until("the evidence is erased", PATIENCE, erased)
    say("what was removed can't be had any more")
    gone = lambda: not any(value in body for body in archives(s3).values() for value in sought.values())
    wait_until("the archive is made anew", PATIENCE, gone)
    now = archives(s3)
    require(now and set(now) != set(first), f"archives: {sorted(now)}")
    say(f"neither salt nor record stands in {', '.join(now)}")
    wait_until("a checkpoint of the erasure", 60, lambda: auditor.export("ev", "stays-0", "--all-versions").returncode == 0)
    for n in range(KEPT):
        bundle = auditor.bundle(f"after-{n}", f"stays-{n}", "--all-versions")
        events = [(found["bucket"], found["key"]) for found in contents(bundle)["objects"]]
        require(("stele:cluster", "erasure") in events, f"no erasure in the bundle: {events}")
        require("erased" in json.dumps(auditor.judge(bundle)), "the verifier does not speak of the erasure")
        auditor.judge(auditor.folder / f"before-gone-{n}")
        done = auditor.export(f"nothing-{n}", f"gone-{n}", "--all-versions")
        require("NoSuchEvidence" in done.stderr or "404" in done.stderr, f"what is erased: {done.stderr}")
    say("bundles of before hold, and new ones show the erasure")
    for node in [*site.gateways, site.anchor, *site.storage, *site.metadata]:
        node.terminate()
    say("done")


if __name__ == "__main__":
    main()
