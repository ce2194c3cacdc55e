#!/usr/bin/env python3
"""Old entries of the evidence log move into archives: evidence of them is had and judged as before, the log reads the same by
every way, nobody writes into the store's bucket, and the metadata does not grow with the history.

    log_archives.py --stele target/debug/stele --work DIR [--archives N]
"""

import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import time
import urllib.request

from botocore.exceptions import ClientError

from store import ACCESS, BUCKET, SECRET, Store, arguments, require, say, wait_until

SETTINGS = {"anchor_interval": "1s"}
ENTRIES = 65_536
KEYS = 1000
MIB = 1 << 20


class Auditor:
    def __init__(self, stele, folder):
        self.stele, self.folder = stele, folder
        self.verifier = pathlib.Path(stele).with_name("stele-verify")
        self.policy = folder / "policy.txt"

    def command(self, store, *words):
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET, RUST_BACKTRACE="0")
        environment["AWS_ENDPOINT_URL"] = store.url
        done = subprocess.run([self.stele, *map(str, words)], capture_output=True, text=True, env=environment, timeout=600)
        require(done.returncode == 0, f"{words}: {done.returncode} {done.stdout[-2000:]} {done.stderr[-2000:]}")
        return done.stdout

    def judged(self, store, name, *words):
        """Exports a bundle, has it judged, and says how many events it has and how long the export took."""
        out = self.folder / name
        shutil.rmtree(out, ignore_errors=True)
        begun = time.monotonic()
        self.command(store, "evidence", "export", *words, "-o", out)
        seconds = time.monotonic() - begun
        command = [str(self.verifier), str(out), "--policy", str(self.policy), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env={}, timeout=600)
        require(done.returncode == 0, f"stele-verify of {name}: {done.returncode} {done.stdout[-3000:]} {done.stderr}")
        return len(sorted((out / "data").glob("object-*"))), seconds


def fetch(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def size_of(store):
    return int(fetch(f"{store.admin}/log/checkpoint").split(b"\n")[1])


def grow(s3, cycles):
    """2,000 entries each, and no version stays: 1,000 delete markers come and go."""
    keys = [{"Key": f"absent/{n:04}"} for n in range(KEYS)]
    for _ in range(cycles):
        made = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})["Deleted"]
        markers = [{"Key": row["Key"], "VersionId": row["DeleteMarkerVersionId"]} for row in made]
        gone = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": markers, "Quiet": True})
        require(len(made) == KEYS and not gone.get("Errors"), f"markers: {len(made)}, {gone.get('Errors')}")


def archives(s3):
    try:
        return s3.list_objects_v2(Bucket="stele-log", Prefix="log/").get("Contents", [])
    except ClientError as error:
        require(error.response["Error"]["Code"] == "NoSuchBucket", f"listing archives: {error}")
        return []


def grow_until(store, s3, count):
    """So many archives, and all but the newest have no rows any more: the next one is made only then."""
    begun, entries = time.monotonic(), size_of(store)
    grow(s3, ((count + 1) * ENTRIES + 2000 - entries) // (2 * KEYS) + 1)
    wait_until("a checkpoint of all entries", 60, lambda: size_of(store) >= (count + 1) * ENTRIES)
    grown = time.monotonic()
    wait_until(f"{count} archives", 300, lambda: len({row["Key"].split("-")[0] for row in archives(s3)}) >= count)
    entries = size_of(store) - entries
    say(f"{entries} entries in {grown - begun:.0f} s, {count} archives {time.monotonic() - grown:.0f} s later")


def refused(what, call):
    try:
        call()
    except ClientError as error:
        words = error.response["Error"]
        require(words["Code"] == "AccessDenied" and "belongs to the store" in words["Message"], f"{what}: {words}")
        return
    require(False, f"{what} was not refused")


def only_read(s3):
    key = archives(s3)[0]["Key"]
    bucket = {"Bucket": "stele-log"}
    refused("PutObject", lambda: s3.put_object(**bucket, Key="x", Body=b"x"))
    refused("overwriting an archive", lambda: s3.put_object(**bucket, Key=key, Body=b"x"))
    refused("DeleteObject", lambda: s3.delete_object(**bucket, Key=key))
    refused("DeleteObjects", lambda: s3.delete_objects(**bucket, Delete={"Objects": [{"Key": key}]}))
    refused("CopyObject", lambda: s3.copy_object(**bucket, Key="x", CopySource={"Bucket": BUCKET, "Key": "first"}))
    refused("CreateMultipartUpload", lambda: s3.create_multipart_upload(**bucket, Key="x"))
    refused("PutObjectTagging", lambda: s3.put_object_tagging(**bucket, Key=key, Tagging={"TagSet": []}))
    refused("PutBucketVersioning", lambda: s3.put_bucket_versioning(**bucket, VersioningConfiguration={"Status": "Enabled"}))
    refused("DeleteBucket", lambda: s3.delete_bucket(**bucket))
    say("stele-log can only be read")


def read_alike(store, s3):
    """By the admin port and as objects."""
    paths = ["checkpoint", "policy", "tile/0/000", "tile/0/255", "tile/1/000", "tile/entries/000", "tile/entries/300"]
    for path in paths:
        page = fetch(f"{store.admin}/log/{path}")
        answer = s3.get_object(Bucket="stele-log", Key=path)
        body = answer["Body"].read()
        # A checkpoint may be replaced between the two questions.
        if path == "checkpoint" and body != page:
            page = fetch(f"{store.admin}/log/{path}")
        require(body == page, f"{path} differs between the admin port and stele-log")
        require(answer["ETag"].strip('"') == hashlib.md5(body).hexdigest(), f"the ETag of {path}")
        head = s3.head_object(Bucket="stele-log", Key=path)
        require(head["ContentLength"] == len(body), f"HEAD of {path}")
    row = archives(s3)[0]
    body = s3.get_object(Bucket="stele-log", Key=row["Key"])["Body"].read()
    require(body[:8] == b"STELELA1" and len(body) == row["Size"], f"{row['Key']} is no archive")
    say(f"an archive has {row['Size'] / MIB:.1f} MiB; {len(paths)} pages read the same by both ways")


def fine(auditor, store):
    begun = time.monotonic()
    found = json.loads(auditor.command(store, "log", "fsck", "--source", f"{store.admin}/log", "--policy", auditor.policy, "--json"))
    require(found["differences"] == 0 and found["size"] >= 3 * ENTRIES, f"fsck: {found}")
    say(f"fsck of {found['size']} entries, {found['tiles']} tiles: {time.monotonic() - begun:.0f} s")


def evidence(auditor, store, when):
    """Of objects whose events are archived."""
    for name, words, events in (
        ("overwritten", [f"s3://{BUCKET}/first"], 1),
        ("all-versions", [f"s3://{BUCKET}/first", "--all-versions"], 3),
        ("deleted", [f"s3://{BUCKET}/deleted", "--all-versions"], 2),
        ("payload", [f"s3://{BUCKET}/large", "--payload"], 1),
        ("range", [f"s3://{BUCKET}/large", "--range", "1000000-1000999"], 1),
    ):
        count, seconds = auditor.judged(store, f"{when}-{name}", *words)
        require(count == events, f"{when} {name}: {count} events instead of {events}")
        say(f"{when}: {name}, {count} events, exported in {seconds:.2f} s and verified")


def state_mib(data):
    return sum(path.stat().st_size for path in data.rglob("state.redb")) / MIB


def main():
    args = arguments(__doc__, ("--archives", int, 5))
    auditor, data = Auditor(args.stele, args.work), args.work / "data"
    store = Store(args.stele, data, **SETTINGS)
    s3, r = store.client(), random.Random(3)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for body in (300, 60_000, 2_000_000):
        s3.put_object(Bucket=BUCKET, Key="first", Body=r.randbytes(body))
    s3.put_object(Bucket=BUCKET, Key="deleted", Body=b"gone")
    s3.delete_object(Bucket=BUCKET, Key="deleted")
    s3.put_object(Bucket=BUCKET, Key="large", Body=r.randbytes(20_000_000))
    size = store.status()["log"]["size"]
    wait_until("a checkpoint", 30, lambda: store.status()["log"].get("signed", 0) >= size)
    auditor.policy.write_bytes(fetch(f"{store.admin}/log/policy"))
    evidence(auditor, store, "before")

    grow_until(store, s3, 2)
    evidence(auditor, store, "archived")
    read_alike(store, s3)
    only_read(s3)
    fine(auditor, store)
    store.stop()
    before, entries = state_mib(data), size
    store = Store(args.stele, data, **SETTINGS)
    s3, entries = store.client(), size_of(store)
    evidence(auditor, store, "restarted")

    grow_until(store, s3, args.archives)
    fine(auditor, store)
    evidence(auditor, store, "later")
    rows, more = archives(s3), size_of(store) - entries
    store.stop()
    after, archived = state_mib(data), sum(row["Size"] for row in rows) / MIB
    say(f"{len(rows)} archives of {archived:.0f} MiB; state.redb {before:.0f} MiB at {entries} entries, {after:.0f} MiB after {more} more")
    print(json.dumps({"entries": entries, "state_mib": before, "more": more, "later_mib": after, "archived_mib": archived}))
    # Freed pages of the file are used again. Kept in rows, these entries would take as much as their archives do.
    grown = archived / len(rows) * more / ENTRIES
    require(after < before + grown / 2, f"state.redb grew from {before:.0f} to {after:.0f} MiB with {grown:.0f} MiB of entries")
    say("done")


if __name__ == "__main__":
    main()
