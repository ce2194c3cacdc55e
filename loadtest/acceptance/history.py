#!/usr/bin/env python3
"""Records what concurrent clients ask of an S3 store and what they are told, for linearizable.py.

    history.py --endpoint URL [--endpoint URL ...] --bucket NAME --out HISTORY.jsonl

Clients PUT unique values (plain, `If-None-Match: *`, `If-Match`), GET, HEAD, list and DELETE a few keys through
all endpoints. Nothing is ever tried again: a retry would hide what is looked for. Keys are new in each run, so
all begin absent. Credentials come from STELE_ROOT_ACCESS_KEY and STELE_ROOT_SECRET_KEY.

The file: one JSON object a line. The first is the header, `{"history": 1, ...}`. Each other is an operation:
`client`, `endpoint`, `key`, `op` (put, get, head, list, delete), `if` (`*` or an ETag, where there was one), of a
put `value` and the expected `etag`; `start` and `end` in nanoseconds of one monotonic clock; `outcome` (ok;
refused: its condition did not hold; failed: certainly without effect, and it says nothing; unknown), `status`,
`code`, and `seen`: of a read `present`, `etag`, `value`; of an accepted put `etag`; of a refusal `reason` (exists,
differs, absent).
"""

import argparse
import datetime
import hashlib
import http.client
import json
import os
import pathlib
import random
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients"))
from s3_raw import Raw  # noqa: E402

TIMEOUT_SECONDS = 5.0
# Pause after an endpoint refused a connection, so that a dead one does not fill the file.
REFUSED_PAUSE_SECONDS = 0.05
OPERATIONS = {"put": 40, "get": 30, "head": 8, "list": 6, "delete": 16}
CONDITIONS = {None: 40, "*": 25, "etag": 35}
# Bytes of bodies: inline, in a shared pack, over several drives.
SIZES = {60: 50, 4_000: 30, 70_000: 15, 600_000: 5}


class NotSent(Exception):
    """No connection, so the server never saw the request."""


def body_of(value, size):
    """The value on a line of its own, then bytes that belong to it alone."""
    line = f"{value} {size}\n".encode()
    return line + hashlib.shake_128(line).digest(size)


def value_of(body):
    """The value of a body; a body that is not whole is the value of nobody."""
    line = body.split(b"\n", 1)[0].decode(errors="replace")
    value, _, size = line.partition(" ")
    whole = size.isdigit() and len(size) < 9 and body == body_of(value, int(size))
    return value if whole else f"torn {hashlib.md5(body).hexdigest()}"


def reason_of_refusal(status, code, condition):
    """Why a conditional write was refused, or None if that is no refusal."""
    if status == 412:
        return "exists" if condition == "*" else "differs"
    return "absent" if (status, code) == (404, "NoSuchKey") and condition not in (None, "*") else None


class Wire:
    """Signed requests over one connection for each endpoint. One client's, so for one thread."""

    def __init__(self, access, secret, timeout):
        self.access, self.secret, self.timeout, self.open = access, secret, timeout, {}

    def call(self, url, method, path, query="", headers=None, body=b""):
        """Status, headers in lower case, body. NotSent, or whatever else went wrong under way."""
        raw = Raw(url, self.access, self.secret)
        signed = raw.sign(method, path, query, headers or {}, hashlib.sha256(body).hexdigest())
        connection = self.open.pop(url, None)
        if connection is None:
            connection = http.client.HTTPConnection(raw.host, raw.port, timeout=self.timeout)
            try:
                connection.connect()
            except OSError as error:
                raise NotSent(str(error)) from error
        try:
            connection.request(method, f"{path}?{query}" if query else path, body=body or None, headers=signed)
            answer = connection.getresponse()
            content = answer.read()
        except BaseException:
            connection.close()
            raise
        if answer.will_close:
            connection.close()
        else:
            self.open[url] = connection
        return answer.status, {name.lower(): text for name, text in answer.getheaders()}, content


class Recorder:
    """`urls` may change while it records: an endpoint that was started again has another port."""

    def __init__(self, urls, bucket, credentials, seed, clients=12, keys=10, timeout=TIMEOUT_SECONDS):
        self.urls, self.bucket, self.credentials, self.seed = urls, bucket, credentials, seed
        self.clients, self.timeout = clients, timeout
        # The time makes the keys of each run new.
        run = f"{seed}-{time.time_ns():x}"
        self.keys = [f"history/{run}/{number}" for number in range(keys)]
        # The ETag last seen by anyone: conditions on it often hold, and race.
        self.etags = dict.fromkeys(self.keys)
        self.stopping, self.lock, self.rows, self.failure = threading.Event(), threading.Lock(), [], None
        self.threads = []

    def start(self):
        self.threads = [threading.Thread(target=self.client, args=(n,), daemon=True) for n in range(self.clients)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        """Waits for what is under way; all rows."""
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        if self.failure:
            raise self.failure
        return sorted(self.rows, key=lambda row: row["start"])

    def client(self, number):
        try:
            rng = random.Random(f"{self.seed} {number}")
            wire, count = Wire(*self.credentials, self.timeout), 0
            while not self.stopping.is_set():
                count += 1
                row = self.one(wire, rng, number, f"c{number}-{count}")
                with self.lock:
                    self.rows.append(row)
                if row["code"] == "NotSent":
                    self.stopping.wait(REFUSED_PAUSE_SECONDS)
        except Exception as error:  # A defect here must end the run, not shorten it.
            self.failure = error

    def one(self, wire, rng, client, value):
        """Draws an operation, does it, says what happened."""
        endpoint = rng.randrange(len(self.urls))
        row = {"client": client, "endpoint": endpoint, "key": rng.choice(self.keys), "op": draw(rng, OPERATIONS)}
        headers, body = {}, b""
        if row["op"] in ("put", "delete"):
            condition = draw(rng, CONDITIONS)
            if condition == "etag" and self.etags[row["key"]]:
                row["if"] = headers["if-match"] = self.etags[row["key"]]
            elif condition == "*" and row["op"] == "put":
                row["if"] = headers["if-none-match"] = "*"
        if row["op"] == "put":
            body = body_of(value, draw(rng, SIZES))
            row.update(value=value, etag=f'"{hashlib.md5(body).hexdigest()}"')
        method, path, query = self.request(row)
        url = self.urls[endpoint]
        row["start"] = time.monotonic_ns()
        try:
            status, found, content = wire.call(url, method, path, query, headers, body)
            row["end"] = time.monotonic_ns()
            code = code_of(content) if status >= 300 else ""
            row.update(status=status, code=code, **judge(row, status, code, found, content))
        except NotSent as error:
            row.update(end=time.monotonic_ns(), status=0, code="NotSent", text=str(error), outcome="failed")
        except (OSError, http.client.HTTPException) as error:
            lost = "unknown" if row["op"] in ("put", "delete") else "failed"
            row.update(end=time.monotonic_ns(), status=0, code=type(error).__name__, text=str(error), outcome=lost)
        etag = row.get("seen", {}).get("etag")
        if etag:
            self.etags[row["key"]] = etag
        return row

    def request(self, row):
        if row["op"] != "list":
            return row["op"].upper(), f"/{self.bucket}/{row['key']}", ""
        prefix = urllib.parse.quote(row["key"], safe="")
        # No key is the prefix of another one but by more digits, and byte order puts the shorter first.
        return "GET", f"/{self.bucket}", f"list-type=2&max-keys=1&prefix={prefix}"


def draw(rng, weights):
    return rng.choices(list(weights), list(weights.values()))[0]


def code_of(content):
    text = content.decode(errors="replace")
    return text.split("<Code>")[1].split("</Code>")[0] if "<Code>" in text else ""


def judge(row, status, code, headers, content):
    """`outcome` and `seen` of an answer. What is not understood is unknown for a write and says nothing for a read."""
    kind = row["op"]
    if kind == "list":
        return {"outcome": "ok", "seen": listed(row["key"], content)} if status == 200 else {"outcome": "failed"}
    if kind in ("get", "head"):
        if status == 200:
            seen = {"present": True, "etag": headers.get("etag", "")}
            if kind == "get":
                seen["value"] = value_of(content)
            return {"outcome": "ok", "seen": seen}
        absent = status == 404 and (kind == "head" or code == "NoSuchKey")
        return {"outcome": "ok", "seen": {"present": False}} if absent else {"outcome": "failed"}
    if status in (200, 204):
        return {"outcome": "ok", "seen": {"etag": headers.get("etag", "")} if kind == "put" else {}}
    reason = reason_of_refusal(status, code, row.get("if"))
    if reason:
        return {"outcome": "refused", "seen": {"reason": reason}}
    # A 5xx, SlowDown too, may come after the commit: the gateway may have asked twice.
    return {"outcome": "unknown"}


def listed(key, content):
    for entry in xml.etree.ElementTree.fromstring(content).iter():
        if entry.tag.rpartition("}")[2] == "Contents":
            fields = {field.tag.rpartition("}")[2]: field.text for field in entry}
            if fields["Key"] == key:
                return {"present": True, "etag": fields["ETag"]}
    return {"present": False}


def make_bucket(url, bucket, credentials):
    status, _, content = Wire(*credentials, 30).call(url, "PUT", f"/{bucket}")
    if status != 200 and code_of(content) != "BucketAlreadyOwnedByYou":
        raise RuntimeError(f"{url}: making bucket {bucket}: {status} {content[:300]!r}")


def write(path, header, rows):
    with open(path, "w", encoding="utf-8") as out:
        for row in [dict(header, history=1), *rows]:
            out.write(json.dumps(row) + "\n")


def credentials_of_environment():
    names = ("STELE_ROOT_ACCESS_KEY", "STELE_ROOT_SECRET_KEY")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        sys.exit(f"FAILED: set {' and '.join(missing)}")
    return tuple(os.environ[name] for name in names)


def counts(rows):
    """How the operations ended, for the report."""
    found = {}
    for row in rows:
        word = row["outcome"] if row["outcome"] in ("ok", "refused") else f"{row['outcome']} ({row['status']} {row['code']})"
        found[word] = found.get(word, 0) + 1
    return dict(sorted(found.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", action="append", required=True, help="several times for several gateways")
    parser.add_argument("--bucket", default="history")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--keys", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="seconds until an answer counts as lost")
    args = parser.parse_args()
    credentials = credentials_of_environment()
    make_bucket(args.endpoint[0], args.bucket, credentials)
    recorder = Recorder(args.endpoint, args.bucket, credentials, args.seed, args.clients, args.keys, args.timeout)
    recorder.start()
    time.sleep(args.seconds)
    rows = recorder.stop()
    header = {"endpoints": args.endpoint, "seed": args.seed, "started": datetime.datetime.now(datetime.timezone.utc).isoformat()}
    write(args.out, header, rows)
    print(json.dumps(counts(rows)))


if __name__ == "__main__":
    main()
