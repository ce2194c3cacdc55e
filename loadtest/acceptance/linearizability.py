#!/usr/bin/env python3
"""Operations are linearizable per key, also while processes stop and die: records a history (history.py) and
checks it (linearizable.py).

    linearizability.py --stele target/debug/stele --work DIR     its own `stele dev`, stopped and killed meanwhile
    linearizability.py --endpoint URL [--endpoint URL ...] --work DIR     a store that runs

With `--endpoint`, credentials come from STELE_ROOT_ACCESS_KEY and STELE_ROOT_SECRET_KEY, and faults are the
caller's. Exit code 0: linearizable; 1: not, or too little was recorded to say so; 2: not decided. The history
stays in DIR.
"""

import argparse
import os
import pathlib
import random
import signal
import sys
import time

import history
import linearizable
from history import Recorder, make_bucket
from store import ACCESS, BUCKET, SECRET, Store, require, say

# Longer than the client's patience in most cases, so that answers are lost while the request goes on.
STOPPED_SECONDS = (0.2, 3.0)
BETWEEN_FAULTS_SECONDS = (0.5, 2.0)
PROOF_SECONDS = 3


class Faulty:
    """One `stele dev` that is stopped, or killed and started again. `urls` follows it."""

    def __init__(self, stele, work, rng):
        self.stele, self.work, self.rng = stele, work, rng
        self.store = Store(stele, work / "data")
        self.urls = [self.store.url]
        self.done = {"stopped": 0, "killed": 0}

    def pause(self):
        os.kill(self.store.pid, signal.SIGSTOP)
        try:
            time.sleep(self.rng.uniform(*STOPPED_SECONDS))
        finally:
            os.kill(self.store.pid, signal.SIGCONT)
        self.done["stopped"] += 1

    def kill(self):
        self.store.kill()
        self.store.errors.close()
        self.store = Store(self.stele, self.work / "data")
        self.urls[0] = self.store.url
        self.done["killed"] += 1

    def disturb(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(self.rng.uniform(*BETWEEN_FAULTS_SECONDS))
            # Each at least once, then as it comes.
            fault = self.pause if not self.done["stopped"] else self.kill if not self.done["killed"] else None
            (fault or self.rng.choice([self.pause, self.kill]))()


def enough(rows):
    """A history that could not show a violation shows nothing."""
    def count(**want):
        return sum(all(row.get(name) == value for name, value in want.items()) for row in rows)

    for want in ({"op": "put", "outcome": "ok"}, {"op": "get", "outcome": "ok"}, {"op": "head", "outcome": "ok"},
                 {"op": "list", "outcome": "ok"}, {"op": "delete", "outcome": "ok"}, {"op": "put", "if": "*", "outcome": "ok"},
                 {"op": "put", "if": "*", "outcome": "refused"}):
        require(count(**want) >= 10, f"only {count(**want)} operations like {want}")
    matched = [row for row in rows if row.get("if", "*") != "*"]
    for outcome in ("ok", "refused"):
        require(sum(row["outcome"] == outcome for row in matched) >= 5, f"hardly any If-Match was {outcome}")


def record(urls, bucket, credentials, args, disturb):
    recorder = Recorder(urls, bucket, credentials, args.seed, args.clients, args.keys, args.timeout)
    recorder.start()
    try:
        disturb(args.seconds)
    finally:
        rows = recorder.stop()
    return rows


def judge(rows, path, header):
    """Writes the history, checks it; the verdict."""
    history.write(path, header, rows)
    say(f"history: {len(rows)} operations: {history.counts(rows)}")
    with open(path, encoding="utf-8") as lines:
        began = time.monotonic()
        verdict = linearizable.check(linearizable.load(lines))
    print(verdict.text(), flush=True)
    say(f"checked in {time.monotonic() - began:.1f} s")
    return verdict


def prove_the_check(args):
    """Two stores that know nothing of each other, taken for one, must be found out, or the check shows nothing."""
    stores = [Store(args.stele, args.work / name) for name in ("one", "other")]
    for store in stores:
        make_bucket(store.url, BUCKET, (ACCESS, SECRET))
    short = argparse.Namespace(**dict(vars(args), seconds=PROOF_SECONDS, keys=3))
    rows = record([store.url for store in stores], BUCKET, (ACCESS, SECRET), short, time.sleep)
    for store in stores:
        store.stop()
    path = args.work / "proof.jsonl"
    history.write(path, {"seed": args.seed, "endpoints": ["one", "other"]}, rows)
    with path.open(encoding="utf-8") as lines:
        verdict = linearizable.check(linearizable.load(lines))
    require(verdict.code == 1, "two stores pass for one")
    path.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stele", help="the binary, to run a store here")
    parser.add_argument("--endpoint", action="append", help="a store that runs; several times for several gateways")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="a folder for the history and the store")
    parser.add_argument("--bucket", default=BUCKET)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--keys", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=1.5, help="seconds until an answer counts as lost")
    args = parser.parse_args()
    if bool(args.stele) == bool(args.endpoint):
        parser.error("either --stele or --endpoint")
    args.work.mkdir(parents=True, exist_ok=True)
    header = {"seed": args.seed, "endpoints": args.endpoint or ["stele dev"]}
    if args.endpoint:
        credentials, bucket = history.credentials_of_environment(), args.bucket
        make_bucket(args.endpoint[0], bucket, credentials)
        rows = record(args.endpoint, bucket, credentials, args, time.sleep)
    else:
        faulty = Faulty(args.stele, args.work, random.Random(args.seed))
        make_bucket(faulty.urls[0], BUCKET, (ACCESS, SECRET))
        rows = record(faulty.urls, BUCKET, (ACCESS, SECRET), args, faulty.disturb)
        faulty.store.stop()
        prove_the_check(args)
        say(f"faults: {faulty.done}")
    verdict = judge(rows, args.work / "history.jsonl", header)
    enough(rows)
    return verdict.code


if __name__ == "__main__":
    sys.exit(main())
