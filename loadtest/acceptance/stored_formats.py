#!/usr/bin/env python3
"""Starts the store over data that earlier versions wrote (loadtest/fixtures/VERSION.tar.xz) and reads all
of it back: objects, headers, listings, an upload that was under way. Then it writes, restarts and reads
again. A format that a new version can't read is found here.

    stored_formats.py --stele target/debug/stele --work DIR
    stored_formats.py --stele target/release/stele --work DIR --make v0.1.0     (once, for a release)
"""

import hashlib
import json
import pathlib
import shutil
import sys
import tarfile

from store import BUCKET, Store, arguments, require, say

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
MIB = 1 << 20
PART = 5 * MIB


def content(name, length):
    """Bytes that follow from the name, repeat often enough to compress well, and seldom enough to be cut."""
    block = hashlib.shake_256(name.encode()).digest(4096)
    counted = (block[:-8] + number.to_bytes(8, "little") for number in range(length // len(block) + 1))
    return b"".join(counted)[:length]


SIZES = {
    "empty": 0,
    "small": 100,
    "scans/ct/0001.dcm": 4096,
    "scans/ct/0002.dcm": 70_000,
    "scans/größe ?#%2F //x": 300_000,
    "own pack": 9 * MIB,
    "zz/last": 1,
}


def make(args):
    store = Store(args.stele, args.work / "data")
    s3 = store.client()
    s3.create_bucket(Bucket=BUCKET)
    for key, size in SIZES.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"replaced")
        body = content(key, size)
        s3.put_object(Bucket=BUCKET, Key=key, Body=body, ContentType="text/x-test", Metadata={"size": str(size)})
    s3.put_object(Bucket=BUCKET, Key="deleted", Body=b"gone")
    s3.delete_object(Bucket=BUCKET, Key="deleted")
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "scans/ct/0002.dcm"})
    for key, complete in (("multipart", True), ("under way", False)):
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key, Metadata={"kind": key.replace(" ", "-")})["UploadId"]
        parts = []
        for number, size in ((1, PART), (2, 100)):
            body = content(f"{key} {number}", size)
            done = s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": done["ETag"]})
        if complete:
            s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    objects = {row["Key"]: s3.head_object(Bucket=BUCKET, Key=row["Key"])["ResponseMetadata"]["HTTPHeaders"] for row in
               s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    kept = {key: {name: value for name, value in headers.items() if name in HEADERS or name.startswith("x-amz-meta-")}
            for key, headers in objects.items()}
    store.stop()
    (args.work / "data" / "expected.json").write_text(json.dumps(kept, indent=1, sort_keys=True))
    FIXTURES.mkdir(exist_ok=True)
    target = FIXTURES / f"{args.make}.tar.xz"
    require(not target.exists(), f"{target.name} exists; a release's fixture is never made again")
    with tarfile.open(target, "w:xz") as archive:
        archive.add(args.work / "data", "data")
    say(f"{target.name}: {target.stat().st_size} bytes")


HEADERS = ("etag", "last-modified", "content-length", "content-type", "x-stele-object-root", "x-stele-log",
           "x-amz-checksum-crc64nvme")


def body_of(key, length):
    if key == "copy":
        return content("scans/ct/0002.dcm", length)
    if key in ("multipart", "under way"):
        return content(f"{key} 1", PART) + content(f"{key} 2", 100)
    return content(key, length)


def check(store, expected):
    """Every object, byte for byte and header for header."""
    s3 = store.client()
    listed = [row["Key"] for row in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    missing = set(expected) - set(listed)
    require(not missing, f"not listed: {missing}")
    for key, headers in expected.items():
        answer = s3.get_object(Bucket=BUCKET, Key=key)
        require(answer["Body"].read() == body_of(key, int(headers["content-length"])), f"{key}: other bytes")
        now = answer["ResponseMetadata"]["HTTPHeaders"]
        for name, value in headers.items():
            # A checksum comes back only where it was asked for.
            if name.startswith("x-amz-checksum") and name not in now:
                continue
            require(now.get(name) == value, f"{key}: {name} is {now.get(name)!r}, was {value!r}")
    require("deleted" not in listed, "a deleted key is back")
    return len(expected)


def finish_upload(store):
    s3 = store.client()
    upload = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"][0]
    key, number = upload["Key"], upload["UploadId"]
    parts = s3.list_parts(Bucket=BUCKET, Key=key, UploadId=number)["Parts"]
    parts = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
    s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=number, MultipartUpload={"Parts": parts})
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    require(body == body_of(key, 0), f"{key}: other bytes")


def verify(args):
    fixtures = sorted(FIXTURES.glob("*.tar.xz"))
    require(fixtures, f"no fixtures in {FIXTURES}")
    for fixture in fixtures:
        work = args.work / fixture.name
        with tarfile.open(fixture) as archive:
            archive.extractall(work, filter="data")
        expected = json.loads((work / "data" / "expected.json").read_text())
        store = Store(args.stele, work / "data")
        count = check(store, expected)
        finish_upload(store)
        store.client().put_object(Bucket=BUCKET, Key="new", Body=b"written by this version")
        store.stop()
        store = Store(args.stele, work / "data")
        check(store, expected)
        require(store.client().get_object(Bucket=BUCKET, Key="new")["Body"].read() == b"written by this version", "new")
        store.stop()
        shutil.rmtree(work)
        say(f"{fixture.name}: {count} objects as they were")


def main():
    args = arguments(__doc__, ("--make", str, None))
    if args.make:
        make(args)
    else:
        verify(args)


if __name__ == "__main__":
    sys.exit(main())
