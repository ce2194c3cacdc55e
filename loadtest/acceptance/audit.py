#!/usr/bin/env python3
"""The audit log of a real store: every request leaves its line, a moved file is followed, a log that can't be written
stops a strict store and no other, and neither it nor the log on stderr, at its most talkative, ever holds a secret.

    audit.py --stele target/debug/stele --work DIR
"""

import datetime
import hashlib
import json
import os
import pathlib
import signal
import sys
import urllib.parse

from botocore.exceptions import ClientError

from store import ACCESS, BUCKET, SECRET, Store, arguments, require, say, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients"))
from s3_raw import Raw, b64  # noqa: E402

TOKEN = "session-token-that-nobody-may-read"
CUSTOMER_KEY = b"customer-key-of-thirty-two-bytes"
MISPLACED = "secretInPlaceOfTheAccessKey"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def line_of(path, answer):
    """The line of the request that got this answer."""
    wanted = answer.headers["x-amz-request-id"]
    wait_until("the line of a request", 30, lambda: any(row["request_id"] == wanted for row in lines(path)))
    return next(row for row in lines(path) if row["request_id"] == wanted and row["operation"] != "DeleteObjects.Item")


def ways_to_fail(raw):
    """Requests that end badly, each with what its line must say."""
    path = f"/{BUCKET}/k"
    wrong = Raw(f"http://{raw.netloc}", ACCESS, "wrong-" + SECRET)
    late = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    sse = {
        "x-amz-server-side-encryption-customer-algorithm": "AES256",
        "x-amz-server-side-encryption-customer-key": b64(CUSTOMER_KEY),
        "x-amz-server-side-encryption-customer-key-md5": b64(hashlib.md5(CUSTOMER_KEY).digest()),
    }
    expired = raw.presign("GET", path, when=late)
    spoilt = raw.presign("GET", path)[:-4] + "0000"
    return [
        (wrong.call("PUT", path, body=b"x"), {"status": 403, "error": "SignatureDoesNotMatch", "principal": None, "claimed": ACCESS}),
        (Raw(f"http://{raw.netloc}", MISPLACED, SECRET).call("GET", path), {"status": 403, "error": "InvalidAccessKeyId", "principal": None}),
        (raw.plain("GET", path), {"status": 403, "operation": "GetObject", "principal": None}),
        (raw.call("GET", path, when=late), {"status": 403, "error": "RequestTimeTooSkewed"}),
        (raw.plain("GET", expired), {"status": 403, "target": path}),
        (raw.plain("GET", spoilt), {"status": 403, "error": "SignatureDoesNotMatch", "claimed": ACCESS}),
        (raw.call("GET", path, headers={"x-amz-security-token": TOKEN}), {"error": "InvalidToken", "operation": "GetObject"}),
        (raw.plain("GET", raw.presign("GET", path, f"X-Amz-Security-Token={TOKEN}")), {"error": "InvalidToken"}),
        (raw.call("PUT", path, headers=sse, body=b"x"), {"operation": "PutObject"}),
        (raw.call("GET", path, headers=sse), {"operation": "GetObject"}),
        (raw.call("DELETE", path, "acl="), {"status": 501, "error": "NotImplemented", "method": "DELETE", "target": path}),
        (raw.call("PUT", path, body=b"x", late={"x-amz-acl": "private"}), {"status": 403, "error": "AccessDenied"}),
        (raw.signed_chunks(path, [b"a" * 9000, b"b"], spoil=True), {"operation": "PutObject"}),
        (raw.call("GET", f"/{BUCKET}/absent%0Akey"), {"status": 404, "error": "NoSuchKey", "key": "absent\nkey"}),
        (raw.plain("OPTIONS", path, {"origin": "http://x", "access-control-request-method": "GET"}), {"status": 403}),
    ]


def secrets(raw):
    """What must stand in no log: keys, tokens, and the right signature of requests that had a wrong one."""
    found = [SECRET, "wrong-" + SECRET, TOKEN, b64(CUSTOMER_KEY), CUSTOMER_KEY.decode(), MISPLACED]
    when = datetime.datetime.now(datetime.timezone.utc)
    signed = raw.sign("PUT", f"/{BUCKET}/k", "", {}, "UNSIGNED-PAYLOAD", when=when)
    right = signed["authorization"].split("Signature=")[1]
    spoilt = {**signed, "authorization": signed["authorization"].replace(right, "0" * 64), "content-length": "1"}
    raw.plain("PUT", f"/{BUCKET}/k", spoilt, b"x")
    url = raw.presign("GET", f"/{BUCKET}/k", when=when)
    link = urllib.parse.parse_qs(url.split("?")[1])["X-Amz-Signature"][0]
    raw.plain("GET", url.replace(link, "0" * 64))
    raw.plain("GET", url)
    return [*found, right, link]


def every_request_has_its_line(args):
    log = args.work / "audit.jsonl"
    # The operator asks for everything, the S3 library's own words included.
    store = Store(args.stele, args.work / "data", audit_log=str(log), log_level="trace,s3s=trace,s3s::ops=trace")
    raw = Raw(store.url, ACCESS, SECRET)
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    put = raw.call("PUT", f"/{BUCKET}/k", body=b"hello", headers={"user-agent": 'odd "client" \\x'})
    row = line_of(log, put)
    facts = {"operation": "PutObject", "principal": ACCESS, "bucket": BUCKET, "key": "k", "status": 200, "bytes_in": 5,
             "complete": True, "log": put.headers["x-stele-log"], "object_root": put.headers["x-stele-object-root"]}
    require(facts.items() <= row.items(), f"{row} lacks some of {facts}")
    require(row["remote"].startswith("127.0.0.1:") and row["user_agent"] == 'odd "client" \\x', row)
    get = line_of(log, raw.plain("GET", raw.presign("GET", f"/{BUCKET}/k")))
    require((get["operation"], get["principal"], get["bytes_out"]) == ("GetObject", ACCESS, 5), get)
    for answer, wanted in ways_to_fail(raw):
        row = line_of(log, answer)
        require(wanted.items() <= row.items() and row["status"] == answer.status, f"{row} lacks some of {wanted}")
        require("Signature" not in json.dumps({**row, "error": ""}), f"{row} holds a query")
    for key in ("other", "single"):
        raw.call("PUT", f"/{BUCKET}/{key}", body=b"x")
    single = raw.call("DELETE", f"/{BUCKET}/single")
    require(line_of(log, single)["log"] == single.headers["x-stele-log"], "the entry of a deletion")
    document = b'<Delete><Object><Key>k</Key><ETag>"no"</ETag></Object><Object><Key>other</Key></Object></Delete>'
    bulk = raw.call("POST", f"/{BUCKET}", "delete=", headers={"content-md5": b64(hashlib.md5(document).digest())}, body=document)
    require(line_of(log, bulk)["operation"] == "DeleteObjects", "a bulk deletion")
    items = [(row["key"], row["error"]) for row in lines(log) if row["operation"] == "DeleteObjects.Item"]
    require(items == [("k", "PreconditionFailed"), ("other", None)], items)
    entries = [row.get("log") for row in lines(log) if row["operation"] == "DeleteObjects.Item"]
    number = lambda entry: int(entry.removeprefix("0/"))
    require(entries[0] is None and number(entries[1]) > number(single.headers["x-stele-log"]), f"entries {entries}")
    say("every request has its line, and refused ones say why")

    hidden = secrets(raw)
    moved = args.work / "audit.1"
    log.rename(moved)
    last = raw.call("GET", f"/{BUCKET}/k")
    line_of(moved, last)
    os.kill(store.pid, signal.SIGHUP)
    wait_until("a new file after SIGHUP", 30, log.exists)
    line_of(log, raw.call("GET", f"/{BUCKET}/k"))
    say("SIGHUP opens the file anew")
    require(store.counter("stele_audit_lines_written_total") > 20 and store.counter("stele_audit_lines_lost_total") == 0, "counts")
    store.stop()

    stderr = pathlib.Path(store.errors.name).read_text(errors="replace")
    require("DEBUG" in stderr and "TRACE" in stderr, "the store is not talkative: nothing is shown by this test")
    for name, text in (("stderr", stderr), ("the audit log", log.read_text() + moved.read_text())):
        for secret in hidden:
            require(secret not in text, f"{name} holds {secret}")
    require("s3s" not in {word.rstrip(":") for word in stderr.split()}, "the S3 library speaks")
    say("no log holds a secret, a token or a signature")


def a_log_that_cannot_be_written(args):
    """/dev/full takes no byte."""
    for strict in ("false", "true"):
        store = Store(args.stele, args.work / f"full-{strict}", audit_log="/dev/full", audit_strict=strict)
        client = store.client()

        def refused():
            try:
                client.list_buckets()
                return False
            except ClientError as error:
                answer = error.response["ResponseMetadata"]
                require(error.response["Error"]["Code"] == "ServiceUnavailable" and answer["HTTPStatusCode"] == 503, error)
                require(answer["HTTPHeaders"]["retry-after"], "no Retry-After")
                return True

        client.list_buckets()
        if strict == "true":
            wait_until("a strict store refuses requests", 30, refused)
            require(store.page("/health/live"), "the admin port answers")
        else:
            wait_until("a failed write is counted", 30, lambda: store.counter("stele_audit_write_failures_total") > 0)
            client.create_bucket(Bucket=BUCKET)
        store.stop()
        require("audit log can't be written" in pathlib.Path(store.errors.name).read_text(), "the operator is not told")
    say("a log that can't be written stops a strict store, and no other")


def main():
    args = arguments(__doc__)
    every_request_has_its_line(args)
    a_log_that_cannot_be_written(args)


if __name__ == "__main__":
    main()
