"""Cases of s3_suite.py: limits. What is at a limit passes, what is over it gets the error that names it, and the store
goes on. Limits of time and of numbers at once are in acceptance/limits.py."""

import hashlib

from s3_raw import EMPTY_SHA256, b64
from s3_suite import answered, case, equal, refused

MIB = 1 << 20


def delete_document(count, key="{n}"):
    return b"<Delete>" + b"".join(f"<Object><Key>{key.format(n=n)}</Key></Object>".encode() for n in range(count)) + b"</Delete>"


def post(t, query, body, path=None):
    headers = {"content-md5": b64(hashlib.md5(body).digest())}
    return t.raw.call("POST", path or t.path, query, headers=headers, body=body)


@case
def documents_at_and_over_their_limits(t):
    answered(post(t, "delete=", delete_document(1000)), 200)
    answered(post(t, "delete=", delete_document(1001)), 400, "MalformedXML")
    # The longest document that means something: every byte of every key escaped.
    longest = delete_document(1000, "&#x00FC;" * 512)
    assert len(longest) > 2 * MIB
    answered(post(t, "delete=", longest), 200)
    answered(post(t, "delete=", b"<Delete>" + b" " * (8 * MIB) + b"</Delete>"), 400, "MaxMessageLengthExceeded")
    for document in (b"<a>" * 100_000, b"<Delete>" + b"<Object>" * 100_000, b"<Delete " + b"a='' " * 100_000 + b"/>",
                     b"<!DOCTYPE d [<!ENTITY a 'aaaaaaaa'>]><Delete><Object><Key>&a;</Key></Object></Delete>"):
        answered(post(t, "delete=", document), 400, "MalformedXML")


@case
def parts_at_and_over_their_limits(t):
    at = {"Bucket": t.bucket, "Key": "k"}
    at["UploadId"] = t.s3.create_multipart_upload(**at)["UploadId"]
    tag = t.s3.upload_part(**at, PartNumber=10_000, Body=b"last")["ETag"]
    for number in (0, -1, 10_001, 65_536, 2**31 - 1):
        answered(t.raw.call("PUT", f"{t.path}/k", f"partNumber={number}&uploadId={at['UploadId']}", body=b"x"), 400, "InvalidArgument")
    for number in ("x", "1.5", "99999999999", "1e3", ""):
        answer = t.raw.call("PUT", f"{t.path}/k", f"partNumber={number}&uploadId={at['UploadId']}", body=b"x")
        assert answer.status == 400, f"part {number!r}: {answer}"
    many = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n in range(1, 10_002))
    answer = t.raw.call("POST", f"{t.path}/k", f"uploadId={at['UploadId']}", body=f"<CompleteMultipartUpload>{many}</CompleteMultipartUpload>".encode())
    assert answer.status == 400 and answer.code in ("MalformedXML", "InvalidArgument", "InvalidPart"), f"10,001 parts: {answer}"
    for number in (-1, 0, 10_001, 2**31):
        one = f"<CompleteMultipartUpload><Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
        answer = t.raw.call("POST", f"{t.path}/k", f"uploadId={at['UploadId']}", body=one.encode())
        assert answer.status == 400, f"part number {number}: {answer}"
    small = [{"PartNumber": 10_000, "ETag": tag}]
    t.s3.upload_part(**at, PartNumber=1, Body=b"too small")
    one = t.s3.list_parts(**at)["Parts"][0]["ETag"]
    refused("EntityTooSmall", t.s3.complete_multipart_upload, **at, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": one}, *small]})
    t.s3.complete_multipart_upload(**at, MultipartUpload={"Parts": small})
    equal(t.body("k"), b"last", "body")


@case
def bodies_over_their_limit_are_refused_before_they_are_sent(t):
    upload = t.s3.create_multipart_upload(Bucket=t.bucket, Key="k")["UploadId"]
    for query in ("", f"partNumber=1&uploadId={upload}"):
        headers = t.raw.sign("PUT", f"{t.path}/k", query, {"content-length": str(5 * 1024**3 + 1)}, "UNSIGNED-PAYLOAD")
        answer = t.raw.bytes(t.raw.head_bytes("PUT", f"{t.path}/k" + (f"?{query}" if query else ""), headers))
        assert b" 400 " in answer.split(b"\r\n")[0] and b"EntityTooLarge" in answer, f"{query}: {answer[:300]}"
    equal(t.keys(), [], "keys")


@case
def metadata_at_and_over_its_limit(t):
    t.put("k", Metadata={"a": "v" * 2047})
    equal(t.head("k")["Metadata"], {"a": "v" * 2047}, "metadata")
    refused("MetadataTooLarge", t.put, "k2", Metadata={"a": "v" * 2048}, status=400)
    refused("MetadataTooLarge", t.put, "k2", Metadata={f"name-{n:02}": "v" * 40 for n in range(50)}, status=400)
    refused("MetadataTooLarge", t.s3.create_multipart_upload, Bucket=t.bucket, Key="k2", Metadata={"a": "v" * 2048}, status=400)
    equal(t.keys(), ["k"], "keys")


@case
def request_heads_at_and_over_their_limits(t):
    head = {**t.raw.sign("GET", t.path, "", {}, EMPTY_SHA256), "connection": "close"}

    def status(target, extra):
        answer = t.raw.bytes(t.raw.head_bytes("GET", target, {**head, **extra}), shut=False)
        line = answer.split(b"\r\n")[0]
        return int(line.split()[1]) if line.startswith(b"HTTP/1.1 ") else 0

    equal(status(t.path, {f"x-{n}": "y" for n in range(80)}), 200, "80 headers")
    equal(status(t.path, {f"x-{n}": "y" for n in range(200)}), 431, "200 headers")
    equal(status(t.path, {"x-long": "y" * 30_000}), 200, "30 KB of headers")
    equal(status(t.path, {"x-long": "y" * 2_000_000}), 431, "2 MB of headers")
    equal(status(f"{t.path}/{'k' * 70_000}", {}), 414, "a long target")
    equal(t.keys(), [], "and goes on")
