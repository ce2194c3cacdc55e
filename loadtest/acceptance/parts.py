#!/usr/bin/env python3
"""An object of 10,000 copied parts: it must come out whole, no byte of the source may be written again,
and Complete's seconds are printed. Then the largest copy, growth by appends, and what they cost.

    parts.py --stele target/debug/stele --work DIR [--parts 10000]

A part is a copy of a 5 MiB object, so the result has 50 GB and the drives hold 5 MiB of it.
"""

import concurrent.futures
import hashlib
import json
import random
import time

from botocore.exceptions import ClientError

from store import BUCKET, Store, arguments, require, say

MIB = 1 << 20
SOURCE = random.Random(11).randbytes(5 * MIB)
WRITERS = 16


def written(store):
    return store.counter("stele_p6_drive_written_bytes_total")


def copied_parts(client, count):
    """An upload whose parts are all copies of the source; returns it and the list for Complete."""
    at = {"Bucket": BUCKET, "Key": "large"}
    at["UploadId"] = client.create_multipart_upload(**at)["UploadId"]

    def copy(number):
        done = client.upload_part_copy(**at, PartNumber=number, CopySource=f"{BUCKET}/source")
        return {"PartNumber": number, "ETag": done["CopyPartResult"]["ETag"]}

    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        return at, list(pool.map(copy, range(1, count + 1)))


def check_pages(client, at, count):
    """Pages of ListParts add up to all parts."""
    seen, pages, marker = [], 0, 0
    while True:
        page = client.list_parts(**at, PartNumberMarker=marker)
        seen += [(part["PartNumber"], part["Size"]) for part in page.get("Parts", [])]
        pages += 1
        require(len(page.get("Parts", [])) <= 1000, "a page of more than 1,000 parts")
        if not page["IsTruncated"]:
            break
        marker = page["NextPartNumberMarker"]
    require(seen == [(number, len(SOURCE)) for number in range(1, count + 1)], "pages of parts do not add up")
    return pages


def check_whole(client, count):
    """Size, parts, and bytes around seams."""
    head = client.head_object(Bucket=BUCKET, Key="large")
    require(head["ContentLength"] == count * len(SOURCE), f"length {head['ContentLength']}")
    digest = hashlib.md5(hashlib.md5(SOURCE).digest() * count).hexdigest()
    require(head["ETag"] == f'"{digest}-{count}"', f"ETag {head['ETag']}")
    last = client.get_object(Bucket=BUCKET, Key="large", PartNumber=count)
    require(last["PartsCount"] == count and last["Body"].read() == SOURCE, "the last part")
    for part in (1, 2, count // 2, count - 1):
        seam = part * len(SOURCE)
        got = client.get_object(Bucket=BUCKET, Key="large", Range=f"bytes={seam - 100}-{seam + 99}")["Body"].read()
        require(got == SOURCE[-100:] + SOURCE[:100], f"the seam behind part {part}")
    marker, seen = 0, 0
    while True:
        page = client.get_object_attributes(
            Bucket=BUCKET, Key="large", ObjectAttributes=["ObjectParts"], PartNumberMarker=marker
        )["ObjectParts"]
        seen += len(page["Parts"])
        require(page["TotalPartsCount"] == count, "count of parts")
        if not page["IsTruncated"]:
            break
        marker = page["NextPartNumberMarker"]
    require(seen == count, f"attributes list {seen} parts")


def check_largest_copy(client):
    """More than 5 GiB is copied in parts only."""
    try:
        client.copy_object(Bucket=BUCKET, Key="copy", CopySource=f"{BUCKET}/large")
        require(False, "a copy of more than 5 GiB was taken")
    except ClientError as error:
        require(error.response["Error"]["Code"] == "InvalidRequest", str(error))


def appends(client, store, count):
    """Seconds and drive bytes of `count` appends of 100 bytes."""
    before, began, length = written(store), time.monotonic(), 0
    for _ in range(count):
        length += 100
        client.put_object(Bucket=BUCKET, Key="log", Body=b"x" * 100, WriteOffsetBytes=length - 100)
    seconds = time.monotonic() - began
    require(client.head_object(Bucket=BUCKET, Key="log")["ContentLength"] == length, "length of the log")
    return round(seconds / count * 1000, 2), round((written(store) - before) / count)


def main():
    args = arguments(__doc__, ("--parts", int, 10_000))
    store = Store(args.stele, args.work / "data")
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="source", Body=SOURCE)
    say(f"{args.parts} parts")
    before, began = written(store), time.monotonic()
    at, listed = copied_parts(client, args.parts)
    copying, moved = time.monotonic() - began, written(store) - before
    require(moved == 0, f"{moved} bytes were written to drives by copies of whole objects")
    pages = check_pages(client, at, args.parts)
    began = time.monotonic()
    client.complete_multipart_upload(**at, MultipartUpload={"Parts": listed})
    completing = time.monotonic() - began
    say(f"Complete took {completing:.2f} s")
    check_whole(client, args.parts)
    if args.parts * len(SOURCE) > 5 << 30:
        check_largest_copy(client)
    milliseconds, cost = appends(client, store, 200)
    store.stop()
    figures = {
        "parts": args.parts,
        "copies_per_second": round(args.parts / copying),
        "complete_seconds": round(completing, 2),
        "pages_of_parts": pages,
        "append_milliseconds": milliseconds,
        "append_drive_bytes": cost,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
