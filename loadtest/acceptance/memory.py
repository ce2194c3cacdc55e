#!/usr/bin/env python3
"""Memory is bounded: resident size of the server when idle and under the loads that tend to break it.

    memory.py --stele target/release/stele --work DIR [--budget-mib 512]

Prints one row of JSON per case and fails if one is over its limit: 200 MiB idle, else 1.25 times the
budget and 100 MiB. Refusals with SlowDown are fine; wrong bytes are not.
"""

import concurrent.futures
import hashlib
import http.client
import json
import socket
import threading
import time
import urllib.parse

from botocore.exceptions import BotoCoreError, ClientError

from store import BUCKET, Store, arguments, require, say

MIB = 1 << 20
IDLE_MIB = 200
CLIENTS = 64
IDLE_CONNECTIONS = 1000
READ_SECONDS = 30


class Peak:
    """Largest resident size while the block runs."""

    def __init__(self, store):
        self.store, self.mib, self.over = store, 0.0, threading.Event()

    def watch(self):
        while not self.over.wait(0.05):
            self.mib = max(self.mib, self.store.rss_mib())

    def __enter__(self):
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *failure):
        self.over.set()
        self.thread.join()


def block(number):
    return hashlib.shake_128(f"block {number}".encode()).digest(MIB)


class Body:
    """A file of pseudo-random blocks that nobody has to hold whole."""

    def __init__(self, seed, mib):
        self.blocks, self.at, self.length = [block(f"{seed} {n}") for n in range(4)], 0, mib * MIB

    def __len__(self):
        return self.length - self.at

    def tell(self):
        return self.at

    def seek(self, at, whence=0):
        self.at = at if whence == 0 else self.length + at
        return self.at

    def read(self, size=-1):
        size = self.length - self.at if size is None or size < 0 else min(size, self.length - self.at)
        out = bytearray()
        while len(out) < size:
            within = self.at % MIB
            piece = self.blocks[self.at // MIB % 4][within : within + size - len(out)]
            out += piece
            self.at += len(piece)
        return bytes(out)


def puts(store):
    """Concurrent PUTs of 64 MiB; returns how many were stored and how many refused."""
    client = store.client(read_timeout=600, connect_timeout=60)

    def put(number):
        try:
            client.put_object(Bucket=BUCKET, Key=f"put/{number}", Body=Body(number, 64))
            return True
        except ClientError as error:
            require(error.response["Error"]["Code"] in ("SlowDown", "ServiceUnavailable"), str(error))
            return False
        except BotoCoreError as error:
            require("closed" in str(error).lower(), str(error))
            return False

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        stored = sum(pool.map(put, range(CLIENTS)))
    return {"stored": stored, "refused": CLIENTS - stored}


def slow_reads(store, objects):
    """Readers that take a little at a time; bytes are compared."""
    where = urllib.parse.urlsplit(store.url).netloc
    client = store.client(signature_version="s3v4")

    def read(number):
        key, mib = objects[number % len(objects)]
        url = client.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": key})
        connection = http.client.HTTPConnection(where, timeout=120)
        connection.request("GET", url[len(store.url) :])
        answer = connection.getresponse()
        if answer.status == 503:
            connection.close()
            return 0
        require(answer.status == 200, f"GET answered {answer.status}")
        expected, seen, end = Body(key, mib), 0, time.monotonic() + READ_SECONDS
        while time.monotonic() < end and seen < mib * MIB:
            piece = answer.read(64 << 10)
            require(piece == expected.read(len(piece)) and piece, f"{key} differs at {seen}")
            seen += len(piece)
            time.sleep(0.1)
        connection.close()
        return seen

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        seen = list(pool.map(read, range(CLIENTS)))
    return {"readers": sum(1 for bytes_read in seen if bytes_read), "mib_read": sum(seen) // MIB}


def idle_connections(store):
    host, port = urllib.parse.urlsplit(store.url).netloc.split(":")
    connections = [socket.create_connection((host, int(port)), timeout=10) for _ in range(IDLE_CONNECTIONS)]
    # Half of them have begun a request and say no more.
    for connection in connections[::2]:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: stele\r\n")
    time.sleep(3)
    store.client().list_buckets()
    for connection in connections:
        connection.close()
    return {"connections": len(connections)}


def main():
    args = arguments(__doc__, ("--budget-mib", int, 512))
    store = Store(args.stele, args.work / "data", memory_budget=f"{args.budget_mib}MiB")
    limit = 1.25 * args.budget_mib + 100
    over = []

    def measure(case, most, load):
        say(case)
        with Peak(store) as peak:
            facts = load()
        row = {"case": case, "rss_mib": round(peak.mib, 1), "limit_mib": most, **facts}
        print(json.dumps(row), flush=True)
        if peak.mib > most:
            over.append(f"{case}: {peak.mib:.0f} MiB, at most {most:.0f}")

    measure("idle", IDLE_MIB, lambda: time.sleep(2) or {})
    store.client().create_bucket(Bucket=BUCKET)
    measure(f"{CLIENTS} PUTs of 64 MiB", limit, lambda: puts(store))
    objects = [(f"large/{n}", 1024) for n in range(4)]
    large = store.client(read_timeout=600)
    for key, mib in objects:
        large.put_object(Bucket=BUCKET, Key=key, Body=Body(key, mib))
    measure(f"{CLIENTS} slow readers of 1 GiB", limit, lambda: slow_reads(store, objects))
    measure(f"{IDLE_CONNECTIONS} idle connections", limit, lambda: idle_connections(store))
    store.stop()
    require(not over, "; ".join(over))


if __name__ == "__main__":
    main()
