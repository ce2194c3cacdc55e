#!/usr/bin/env python3
"""Drives that lost what they held get it back: two drives of six are emptied, repair makes their shards anew, and then two
others may be lost with nothing missing. A third loss at once is told, and comes back with nothing made up.

    repair.py --stele target/debug/stele --work DIR
"""

import hashlib
import json
import random
import shutil
import time

from botocore.exceptions import BotoCoreError, ClientError

from possession import emptied
from store import BUCKET, Store, arguments, require, say, wait_until

SETTINGS = {"repair_interval": "1s", "repair_rate": "0B"}
# From small ones that share a pack to one of several packs.
SIZES = [100, 4096, 70_000, 300_000, 1_000_000, 5_000_000, 9_000_000, 20_000_000, 150_000_000]


def fill(s3):
    r, digests = random.Random(6), {}
    s3.create_bucket(Bucket=BUCKET)
    for n, size in enumerate(SIZES * 3):
        body = r.randbytes(size if size < 100_000_000 or n < len(SIZES) else 2_000_000)
        s3.put_object(Bucket=BUCKET, Key=f"object-{n:02}", Body=body)
        digests[f"object-{n:02}"] = hashlib.sha256(body).hexdigest()
    return digests


def readable(s3, digests):
    good = 0
    for key, digest in digests.items():
        try:
            body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        # One that begins well ends with an error, never short.
        except (BotoCoreError, ClientError):
            continue
        require(hashlib.sha256(body).hexdigest() == digest, f"{key} has other bytes")
        good += 1
    return good


def lose(args, data, store, *drives):
    store.stop()
    for number in drives:
        emptied(data / f"drive-{number}")
    return Store(args.stele, data, **SETTINGS)


def main():
    args = arguments(__doc__)
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    data = args.work / "data"
    store = Store(args.stele, data, **SETTINGS)
    digests = fill(store.client())
    lost = [sum(path.stat().st_size for path in (data / f"drive-{n}").rglob("*") if path.is_file()) for n in (1, 4)]
    rows = []
    for drives in ((1, 4), (2, 3), (0, 5)):
        begun = time.monotonic()
        store = lose(args, data, store, *drives)
        wait_until("shards are made anew", 60, lambda: store.counter("stele_repair_shards_total") > 0)
        # Nothing is missing any more once a whole second look finds nothing to do.
        last = -1
        while (now := store.counter("stele_repair_shards_total")) != last:
            last = now
            time.sleep(3)
        moved = store.counter("stele_repair_moved_bytes_total")
        require(readable(store.client(), digests) == len(digests), f"after {drives}")
        rows.append({"bench": "repair", "drives": list(drives), "shards": int(now), "moved_bytes": int(moved)})
        say(f"drives {drives}: {now:.0f} shards made anew, {moved / 1e6:.0f} MB moved, {time.monotonic() - begun:.0f} s")
    require(store.counter("stele_repair_unreadable_packs") == 0, "packs are unreadable")
    store = lose(args, data, store, 0, 1, 2)
    wait_until("what is lost is told", 60, lambda: store.counter("stele_repair_unreadable_packs") > 0)
    left = readable(store.client(), digests)
    unreadable = store.counter("stele_repair_unreadable_packs")
    require(left < len(digests), "three drives were lost and everything is there")
    say(f"three drives at once: {unreadable:.0f} packs are told, {left} of {len(digests)} objects read as before")
    store.stop()
    print(json.dumps(rows + [{"bench": "lost", "bytes_of_two_drives": sum(lost)}]))
    say("done")


if __name__ == "__main__":
    main()
