"""Cases of s3_suite.py: multipart uploads."""

import base64
import hashlib
import random

from s3_raw import b64, checksum
from s3_suite import answered, case, equal, refused

MIB = 1024 * 1024
PARTS = [random.Random(n).randbytes(size) for n, size in enumerate((5 * MIB, 6 * MIB + 1, 100))]
WHOLE = b"".join(PARTS)


def etag_of(parts):
    return f'"{hashlib.md5(b"".join(hashlib.md5(p).digest() for p in parts)).hexdigest()}-{len(parts)}"'


@case
def parts_become_one_object(t):
    _, _, done = t.upload("k", PARTS, Metadata={"a": "b"}, ContentType="application/x-model")
    equal(done["ETag"], etag_of(PARTS), "ETag")
    got = t.get("k")
    assert got["Body"].read() == WHOLE, "bytes differ"
    equal((got["ETag"], got["ContentLength"]), (etag_of(PARTS), len(WHOLE)), "ETag and length")
    equal((got["Metadata"], got["ContentType"]), ({"a": "b"}, "application/x-model"), "headers of Create")
    equal(t.s3.list_multipart_uploads(Bucket=t.bucket).get("Uploads", []), [], "uploads left")
    seam = len(PARTS[0])
    equal(t.body("k", Range=f"bytes={seam - 3}-{seam + 2}"), WHOLE[seam - 3 : seam + 3], "over a seam")


@case
def part_numbers_address_parts(t):
    t.upload("k", PARTS)
    for number, part in enumerate(PARTS, 1):
        got = t.get("k", PartNumber=number)
        equal(got["ResponseMetadata"]["HTTPStatusCode"], 206, "status")
        equal((got["ContentLength"], got["PartsCount"]), (len(part), 3), "length and count")
        assert got["Body"].read() == part, f"bytes of part {number}"
    refused(("InvalidPartNumber", "InvalidRange"), t.get, "k", PartNumber=4, status=416)
    t.put("single", b"one body")
    equal(t.body("single", PartNumber=1), b"one body", "part 1 of a plain object")
    refused(("InvalidPartNumber", "InvalidRange"), t.get, "single", PartNumber=2, status=416)
    refused("InvalidRequest", t.get, "k", PartNumber=1, Range="bytes=0-1", status=400)


@case
def gaps_and_unlisted_parts(t):
    at = {"Bucket": t.bucket, "Key": "k"}
    at["UploadId"] = t.s3.create_multipart_upload(**at)["UploadId"]
    tags = {n: t.s3.upload_part(**at, PartNumber=n, Body=PARTS[i])["ETag"] for i, n in enumerate((3, 10, 10_000))}
    listed = [{"PartNumber": n, "ETag": tags[n].strip('"')} for n in (3, 10_000)]
    t.s3.complete_multipart_upload(**at, MultipartUpload={"Parts": listed})
    assert t.body("k") == PARTS[0] + PARTS[2], "listed parts only"


@case
def a_part_can_be_sent_again(t):
    at = {"Bucket": t.bucket, "Key": "k"}
    at["UploadId"] = t.s3.create_multipart_upload(**at)["UploadId"]
    old = t.s3.upload_part(**at, PartNumber=1, Body=b"old")["ETag"]
    new = t.s3.upload_part(**at, PartNumber=1, Body=b"new")["ETag"]
    complete = t.s3.complete_multipart_upload
    refused("InvalidPart", complete, **at, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": old}]}, status=400)
    complete(**at, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": new}]})
    equal(t.body("k"), b"new", "bytes")


@case
def complete_checks_its_list(t):
    at = {"Bucket": t.bucket, "Key": "k"}
    at["UploadId"] = t.s3.create_multipart_upload(**at)["UploadId"]
    tags = [t.s3.upload_part(**at, PartNumber=n, Body=b"%d" % n)["ETag"] for n in (1, 2)]
    part = lambda n, tag: {"PartNumber": n, "ETag": tag}
    complete = lambda parts: t.s3.complete_multipart_upload(**at, MultipartUpload={"Parts": parts})
    refused("InvalidPartOrder", complete, [part(2, tags[1]), part(1, tags[0])], status=400)
    refused("InvalidPartOrder", complete, [part(1, tags[0]), part(1, tags[0])], status=400)
    refused("InvalidPart", complete, [part(1, tags[1])], status=400)
    refused("InvalidPart", complete, [part(7, tags[0])], status=400)
    refused("EntityTooSmall", complete, [part(1, tags[0]), part(2, tags[1])], status=400)
    refused("MalformedXML", complete, [], status=400)
    complete([part(2, tags[1])])
    equal(t.body("k"), b"2", "bytes")


@case
def complete_can_be_repeated(t):
    upload, listed, done = t.upload("k", PARTS[:2])
    again = t.s3.complete_multipart_upload(
        Bucket=t.bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": listed}
    )
    equal(again["ETag"], done["ETag"], "ETag of the repeat")


@case
def complete_under_conditions(t):
    t.put("k", b"first")
    at = {"Bucket": t.bucket, "Key": "k"}
    at["UploadId"] = t.s3.create_multipart_upload(**at)["UploadId"]
    listed = [{"PartNumber": 1, "ETag": t.s3.upload_part(**at, PartNumber=1, Body=b"part")["ETag"]}]
    complete = t.s3.complete_multipart_upload
    refused("PreconditionFailed", complete, **at, MultipartUpload={"Parts": listed}, IfNoneMatch="*", status=412)
    equal(t.body("k"), b"first", "after the refusal")
    codes = ("InvalidRequest", "InvalidArgument")
    refused(codes, complete, **at, MultipartUpload={"Parts": listed}, MpuObjectSize=5, status=400)
    complete(**at, MultipartUpload={"Parts": listed}, IfMatch=t.head("k")["ETag"])
    equal(t.body("k"), b"part", "after the completion")


@case
def abort_and_unknown_uploads(t):
    at = {"Bucket": t.bucket, "Key": "k"}
    at["UploadId"] = t.s3.create_multipart_upload(**at)["UploadId"]
    t.s3.upload_part(**at, PartNumber=1, Body=b"x")
    equal(t.s3.abort_multipart_upload(**at)["ResponseMetadata"]["HTTPStatusCode"], 204, "abort")
    for name in (at["UploadId"], "0" * 32, "nonsense"):
        at["UploadId"] = name
        refused("NoSuchUpload", t.s3.upload_part, **at, PartNumber=1, Body=b"x", status=404)
        refused("NoSuchUpload", t.s3.list_parts, **at, status=404)
        refused("NoSuchUpload", t.s3.abort_multipart_upload, **at, status=404)
        listed = {"Parts": [{"PartNumber": 1, "ETag": "x"}]}
        refused("NoSuchUpload", t.s3.complete_multipart_upload, **at, MultipartUpload=listed, status=404)
    refused("NoSuchKey", t.get, "k")


@case
def part_numbers_have_limits(t):
    at = {"Bucket": t.bucket, "Key": "k"}
    at["UploadId"] = t.s3.create_multipart_upload(**at)["UploadId"]
    for number in (0, 10_001, -1):
        refused("InvalidArgument", t.s3.upload_part, **at, PartNumber=number, Body=b"x", status=400)
    query = f"partNumber=99999999999999999999&uploadId={at['UploadId']}"
    answer = t.raw.call("PUT", f"{t.path}/k", query, body=b"x")
    assert answer.status == 400, answer


@case
def parts_and_uploads_are_listed_in_pages(t):
    at = {"Bucket": t.bucket, "Key": "k"}
    at["UploadId"] = t.s3.create_multipart_upload(**at)["UploadId"]
    for number in (1, 2, 5, 9, 10):
        t.s3.upload_part(**at, PartNumber=number, Body=b"x" * number)
    pages = t.s3.get_paginator("list_parts").paginate(**at, PaginationConfig={"PageSize": 2})
    found = [(p["PartNumber"], p["Size"]) for page in pages for p in page["Parts"]]
    equal(found, [(n, n) for n in (1, 2, 5, 9, 10)], "parts")
    others = {(f"p/{n}", t.s3.create_multipart_upload(Bucket=t.bucket, Key=f"p/{n}")["UploadId"]) for n in range(4)}
    others |= {("p/0", t.s3.create_multipart_upload(Bucket=t.bucket, Key="p/0")["UploadId"])}
    paginator = t.s3.get_paginator("list_multipart_uploads")
    pages = paginator.paginate(Bucket=t.bucket, Prefix="p/", PaginationConfig={"PageSize": 2})
    found = [(u["Key"], u["UploadId"]) for page in pages for u in page["Uploads"]]
    equal(sorted(found), sorted(others), "uploads")
    equal([k for k, _ in found], sorted(k for k, _ in found), "order of keys")
    rolled = t.s3.list_multipart_uploads(Bucket=t.bucket, Delimiter="/")
    equal([p["Prefix"] for p in rolled["CommonPrefixes"]], ["p/"], "common prefixes")
    equal([u["Key"] for u in rolled["Uploads"]], ["k"], "uploads outside of them")


@case
def composite_and_full_checksums(t):
    for algorithm, kind in [("SHA256", "COMPOSITE"), ("SHA1", "COMPOSITE"), ("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT")]:
        at = {"Bucket": t.bucket, "Key": f"{algorithm}-{kind}"}
        created = t.s3.create_multipart_upload(**at, ChecksumAlgorithm=algorithm, ChecksumType=kind)
        equal((created["ChecksumAlgorithm"], created["ChecksumType"]), (algorithm, kind), "Create")
        at["UploadId"] = created["UploadId"]
        field, listed, raw = f"Checksum{algorithm}", [], b""
        for number, body in enumerate(PARTS, 1):
            part = t.s3.upload_part(**at, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
            equal(part[field], checksum(algorithm.lower(), body), f"part {number}")
            raw += base64.b64decode(part[field])
            listed.append({"PartNumber": number, "ETag": part["ETag"], field: part[field]})
        wrong = [dict(listed[0], **{field: listed[1][field]}), *listed[1:]]
        complete = t.s3.complete_multipart_upload
        refused(("InvalidPart", "BadDigest"), complete, **at, MultipartUpload={"Parts": wrong}, status=400)
        done = complete(**at, MultipartUpload={"Parts": listed}, ChecksumType=kind)
        wanted = f"{checksum(algorithm.lower(), raw)}-3" if kind == "COMPOSITE" else checksum("crc32", WHOLE)
        equal((done[field], done["ChecksumType"]), (wanted, kind), f"{algorithm} {kind}")
        head = t.head(at["Key"], ChecksumMode="ENABLED")
        equal((head[field], head["ChecksumType"]), (wanted, kind), f"HEAD {algorithm} {kind}")
        assert t.body(at["Key"], ChecksumMode="ENABLED") == WHOLE, "bytes"
    refused("InvalidRequest", t.s3.create_multipart_upload, Bucket=t.bucket, Key="k", ChecksumAlgorithm="SHA256",
            ChecksumType="FULL_OBJECT", status=400)


@case
def parts_are_verified(t):
    at = {"Bucket": t.bucket, "Key": "k"}
    at["UploadId"] = t.s3.create_multipart_upload(**at)["UploadId"]
    query = f"partNumber=1&uploadId={at['UploadId']}"
    md5 = {"content-md5": b64(hashlib.md5(b"other").digest())}
    answered(t.raw.call("PUT", f"{t.path}/k", query, headers=md5, body=b"part"), 400, "BadDigest")
    crc = {"x-amz-checksum-crc32c": checksum("crc32c", b"other")}
    answered(t.raw.call("PUT", f"{t.path}/k", query, headers=crc, body=b"part"), 400, "BadDigest")
    equal(t.s3.list_parts(**at).get("Parts", []), [], "parts")
