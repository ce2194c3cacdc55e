#!/usr/bin/env python3
"""Space comes back: after many overwrites and deletes, with a short grace time, the drives hold at
most a fifth more than what is live.

    space.py --stele target/debug/stele --work DIR [--operations 10000]

What the drives hold is asked of the file system (allocated blocks), not of the store. With one client
no two bodies share a pack, and what is live is what a second store needs for the survivors alone.
With eight clients small bodies share packs; a pack stays whole while one of its bodies lives, so there
live is what referenced packs take, and the factor to the survivors alone is printed as a figure.
Everything that survives must read back whole, also after a restart.
"""

import concurrent.futures
import hashlib
import random
import time

from store import BUCKET, Store, arguments, require, say, wait_until

KEYS = 400
SLACK = 1.2
# Longer than a sweep waits for the fence to move on.
STEADY_SECONDS = 30


def body(key, version):
    """Content of one version: 1 KiB to 256 KiB that nothing compresses."""
    rng = random.Random(f"{key} {version}")
    return rng.randbytes(rng.choice([1 << 10, 16 << 10, 64 << 10, 256 << 10]))


def allocated(data):
    """Bytes that the file system holds for all drives."""
    files = (path for drive in data.glob("drive-*") for path in drive.rglob("*") if path.is_file())
    return sum(path.stat().st_blocks * 512 for path in files)


def churn(client, keys, operations, seed):
    """Overwrites and deletes on keys that nobody else touches; returns the survivors' versions."""
    rng, alive = random.Random(seed), {}
    for number in range(operations):
        key = rng.choice(keys)
        if key in alive and rng.random() < 0.3:
            client.delete_object(Bucket=BUCKET, Key=key)
            del alive[key]
        else:
            client.put_object(Bucket=BUCKET, Key=key, Body=body(key, number))
            alive[key] = number
    return alive


def check(client, survivors):
    for key, version in survivors.items():
        found = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        require(hashlib.sha256(found).digest() == hashlib.sha256(body(key, version)).digest(), f"{key} differs")


def round_of(args, name, clients):
    """One churn on a store of its own; fails unless its space comes back."""
    data, fresh = args.work / name, args.work / f"{name}-alone"
    short = {"gc_interval": "1s", "gc_grace": "2s"}
    store = Store(args.stele, data, **short)
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    shares = [[f"{n:02}/{k:04}" for k in range(KEYS // clients)] for n in range(clients)]
    survivors = {}
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        jobs = [pool.submit(churn, client, keys, args.operations // clients, n) for n, keys in enumerate(shares)]
        for job in jobs:
            survivors.update(job.result())
    say(f"{name}: {args.operations} overwrites and deletes, {len(survivors)} survive, {allocated(data) >> 20} MiB held")

    reference = Store(args.stele, fresh, **short)
    alone = reference.client()
    alone.create_bucket(Bucket=BUCKET)
    for key, version in survivors.items():
        alone.put_object(Bucket=BUCKET, Key=key, Body=body(key, version))
    least = reference.status()["live_bytes"]
    reference.stop()

    def live():
        return store.status()["live_bytes"]

    began, history = time.monotonic(), [(time.monotonic(), live())]

    def settled():
        """With one client: the space is back. Else: nothing more was swept for a while, and it has left the drives."""
        held, now = allocated(data), live()
        if clients == 1:
            return held <= SLACK * least
        if now != history[-1][1]:
            history.append((time.monotonic(), now))
        return held <= SLACK * now and len(history) > 1 and time.monotonic() - history[-1][0] > STEADY_SECONDS

    try:
        wait_until("space within a fifth of live", 180, settled)
    finally:
        held, kept, took = allocated(data), live(), time.monotonic() - began
        say(f"{name}: after {took:.0f} s drives hold {held} bytes, live {kept} (x{held / kept:.2f})")
        say(f"{name}: the survivors alone need {least} (x{held / least:.2f})")
    check(client, survivors)
    store.stop()
    store = Store(args.stele, data, **short)
    check(store.client(), survivors)
    store.stop()


def main():
    args = arguments(__doc__, ("--operations", int, 10_000))
    round_of(args, "one-client", 1)
    round_of(args, "eight-clients", 8)
    say("space came back, and every survivor is whole")


if __name__ == "__main__":
    main()
