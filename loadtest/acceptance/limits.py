#!/usr/bin/env python3
"""Slow and greedy clients against a real store: silent connections, dripped headers and bodies, readers that don't read,
more connections, requests and requests per second than are allowed. The store gives them up, tells others to slow down,
goes on serving, and its memory stays within the budget.

    limits.py --stele target/debug/stele --work DIR
"""

import concurrent.futures
import pathlib
import select
import socket
import sys

from botocore.exceptions import ClientError

from store import ACCESS, BUCKET, SECRET, Store, arguments, require, say, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients"))
from s3_raw import EMPTY_SHA256, Raw  # noqa: E402

MIB = 1 << 20
LARGE = "large"
BUDGET_MIB = 128


def connect(raw):
    connection = socket.create_connection((raw.host, raw.port), timeout=60)
    connection.settimeout(60)
    return connection


def get(raw, key, small_window=False):
    """A connection on which this object was asked for."""
    connection = socket.socket()
    if small_window:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect((raw.host, raw.port))
    path = f"/{BUCKET}/{key}"
    connection.sendall(raw.head_bytes("GET", path, raw.sign("GET", path, "", {}, EMPTY_SHA256)))
    return connection


def ended(connection):
    """Reads until the server has ended the connection."""
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
    except ConnectionError:
        pass
    return answer


def drip(connection, data):
    """A byte at a time, until the server has had enough."""
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return True
        if select.select([connection], [], [], 0.1)[0]:
            return True
    return False


def slow_clients(args):
    store = Store(args.stele, args.work / "slow", limits_header_timeout="1s", limits_idle_timeout="1s",
                  memory_budget=f"{BUDGET_MIB}MiB", limits_connections="300")
    raw, client = Raw(store.url, ACCESS, SECRET), store.client()
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key=LARGE, Body=b"x" * (32 * MIB))
    store.client().get_object(Bucket=BUCKET, Key=LARGE)["Body"].read()

    ended(connect(raw))
    head = raw.head_bytes("GET", f"/{BUCKET}", {**raw.sign("GET", f"/{BUCKET}", "", {}, EMPTY_SHA256), "x-more": "y" * 5000})
    with connect(raw) as connection:
        require(drip(connection, head), "a header may be dripped without end")
    say("silent connections and dripped headers are ended")

    for body in (b"", b"a" * 1000):
        path = f"/{BUCKET}/half"
        headers = raw.sign("PUT", path, "", {"content-length": "3000000"}, "UNSIGNED-PAYLOAD")
        with connect(raw) as connection:
            connection.sendall(raw.head_bytes("PUT", path, headers) + body)
            answer = ended(connection)
        require(b"RequestTimeout" in answer or not answer, answer[:300])
    require([o["Key"] for o in client.list_objects_v2(Bucket=BUCKET)["Contents"]] == [LARGE], "half a body was stored")
    say("bodies that stop are ended, and nothing of them is kept")

    readers = [get(raw, LARGE, small_window=True) for _ in range(150)]
    client.list_buckets()
    wait_until("readers that don't read are given up", 60, lambda: store.counter("stele_http_requests_in_flight") == 0)
    resident = store.rss_mib()
    require(resident < 1.25 * BUDGET_MIB + 100, f"{resident:.0f} MiB resident with a budget of {BUDGET_MIB} MiB")
    for reader in readers:
        reader.close()
    say(f"150 readers that don't read are given up; {resident:.0f} MiB resident")

    idle = [connect(raw) for _ in range(300)]
    for connection in idle[::2]:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: stele\r\n")
    # All slots are taken; this waits until the idle ones have been ended.
    client.list_buckets()
    store.client(read_timeout=60).get_object(Bucket=BUCKET, Key=LARGE)["Body"].read()
    for connection in idle:
        ended(connection)
    say("idle connections make room")
    store.stop()


def slowed(call):
    """None, or the Retry-After of SlowDown."""
    try:
        call()
        return None
    except ClientError as error:
        answer = error.response["ResponseMetadata"]
        require((error.response["Error"]["Code"], answer["HTTPStatusCode"]) == ("SlowDown", 503), error)
        return answer["HTTPHeaders"]["retry-after"]


def too_many_at_once(args):
    store = Store(args.stele, args.work / "many", limits_requests="4")
    raw, client = Raw(store.url, ACCESS, SECRET), store.client()
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key=LARGE, Body=b"x" * (32 * MIB))
    readers = [get(raw, LARGE, small_window=True) for _ in range(4)]
    wait_until("four requests under way", 30, lambda: store.counter("stele_http_requests_in_flight") == 4)
    require(slowed(lambda: client.put_object(Bucket=BUCKET, Key="refused", Body=b"x")) == "1", "a fifth request")
    require(store.page("/health/ready"), "the admin port answers")
    require(store.counter("stele_http_requests_slowed_total") >= 1, "the refusal is counted")
    for reader in readers:
        reader.close()
    wait_until("requests are let in again", 60, lambda: slowed(lambda: client.list_buckets()) is None)
    require([o["Key"] for o in client.list_objects_v2(Bucket=BUCKET)["Contents"]] == [LARGE], "a refused request did something")
    store.stop()
    say("more requests at once than allowed are told to slow down")


def too_many_per_second(args):
    store = Store(args.stele, args.work / "rate", limits_requests_per_second="20")
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        pauses = list(pool.map(lambda _: slowed(client.list_buckets), range(200)))
    refused = [pause for pause in pauses if pause is not None]
    require(refused and len(refused) < 200 and set(refused) == {"1"}, f"{len(refused)} of 200 refused: {set(refused)}")
    patient = store.client(retries={"max_attempts": 10, "mode": "adaptive"})
    for number in range(30):
        patient.put_object(Bucket=BUCKET, Key=f"{number}", Body=b"x")
    require(store.page("/metrics"), "the admin port answers")
    store.stop()
    say(f"{len(refused)} of 200 requests at once were told to slow down; a patient client gets through")


def main():
    args = arguments(__doc__)
    slow_clients(args)
    too_many_at_once(args)
    too_many_per_second(args)


if __name__ == "__main__":
    main()
