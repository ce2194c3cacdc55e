"""Cases of s3_suite.py: copies into parts and of objects, and what is known of an object's parts."""

import hashlib
import random

from s3_raw import checksum
from s3_suite import answered, case, equal, refused

MIB = 1024 * 1024
BODY = random.Random(40).randbytes(11 * MIB + 13)


def begin(t, key, **create):
    at = {"Bucket": t.bucket, "Key": key}
    return {**at, "UploadId": t.s3.create_multipart_upload(**at, **create)["UploadId"]}


def copy_part(t, at, number, source, **more):
    return t.s3.upload_part_copy(**at, PartNumber=number, CopySource=f"{t.bucket}/{source}", **more)


def listed(number, result, **more):
    return {"PartNumber": number, "ETag": result["ETag"], **more}


def complete(t, at, parts, **more):
    return t.s3.complete_multipart_upload(**at, MultipartUpload={"Parts": parts}, **more)


@case
def objects_and_ranges_become_parts(t):
    t.put("source", BODY)
    at = begin(t, "k")
    ranges = [(1, 6 * MIB), (0, len(BODY) - 1), (5 * MIB, 11 * MIB), (17, 17)]
    parts = []
    for number, (first, last) in enumerate(ranges, 1):
        done = copy_part(t, at, number, "source", CopySourceRange=f"bytes={first}-{last}")["CopyPartResult"]
        assert len(done["ETag"].strip('"')) == 32 and done["LastModified"], done
        parts.append(listed(number, done))
    whole = copy_part(t, at, 5, "source")["CopyPartResult"]
    equal(whole["ETag"], f'"{hashlib.md5(BODY).hexdigest()}"', "a whole object keeps its MD5")
    # All but the last have 5 MiB at least: the fourth has one byte.
    refused("EntityTooSmall", complete, t, at, [*parts, listed(5, whole)], status=400)
    del parts[3]
    done = complete(t, at, [*parts, listed(5, whole)])
    assert done["ETag"].endswith('-4"'), done["ETag"]
    assert t.body("k") == b"".join(BODY[a : b + 1] for a, b in ranges[:3]) + BODY, "bytes differ"
    equal(t.get("k", PartNumber=2)["ContentLength"], len(BODY), "length of a copied part")


@case
def ranges_outside_of_the_source_are_refused(t):
    t.put("source", b"12345")
    at = begin(t, "k")
    for wrong in ("bytes=0-5", "bytes=5-5", "bytes=9-10", "0-2", "bytes=0", "bytes=3-1", "bytes=-2", "bytes=2-", "bytes=0-1,3-4", "bytes=a-b"):
        refused("InvalidArgument", copy_part, t, at, 1, "source", CopySourceRange=wrong, status=400)
    copy_part(t, at, 1, "source", CopySourceRange="bytes=4-4")
    for number in (0, 10_001):
        refused("InvalidArgument", copy_part, t, at, number, "source", status=400)
    refused("NoSuchKey", copy_part, t, at, 1, "absent", status=404)
    refused("NoSuchUpload", copy_part, t, {**at, "UploadId": "0" * 32}, 1, "source", status=404)
    refused("NoSuchBucket", t.s3.upload_part_copy, **at, PartNumber=1, CopySource="no-such-bucket-here/k", status=404)


@case
def conditions_on_the_source_of_a_part(t):
    etag = t.put("source", b"12345")["ETag"]
    at = begin(t, "k")
    modified = t.head("source")["LastModified"]
    long_ago = modified.replace(year=2000)
    for wrong in (
        {"CopySourceIfMatch": '"other"'},
        {"CopySourceIfNoneMatch": etag},
        {"CopySourceIfUnmodifiedSince": long_ago},
        {"CopySourceIfModifiedSince": modified},
        {"CopySourceIfNoneMatch": etag, "CopySourceIfModifiedSince": long_ago},
    ):
        refused("PreconditionFailed", copy_part, t, at, 1, "source", **wrong, status=412)
    copy_part(t, at, 1, "source", CopySourceIfMatch=etag, CopySourceIfUnmodifiedSince=long_ago)
    copy_part(t, at, 1, "source", CopySourceIfNoneMatch='"other"', CopySourceIfModifiedSince=long_ago)


@case
def versions_and_other_buckets_as_sources_of_parts(t):
    other = f"{t.bucket[:50]}-other"
    t.s3.create_bucket(Bucket=other)
    t.s3.put_bucket_versioning(Bucket=other, VersioningConfiguration={"Status": "Enabled"})
    try:
        old = t.s3.put_object(Bucket=other, Key="a b+c", Body=b"old")["VersionId"]
        new = t.s3.put_object(Bucket=other, Key="a b+c", Body=b"new")["VersionId"]
        marker = t.s3.delete_object(Bucket=other, Key="a b+c")["VersionId"]
        at = begin(t, "k")
        source = {"Bucket": other, "Key": "a b+c"}
        done = t.s3.upload_part_copy(**at, PartNumber=1, CopySource={**source, "VersionId": old})
        equal(done["CopySourceVersionId"], old, "version of the source")
        refused("NoSuchKey", t.s3.upload_part_copy, **at, PartNumber=2, CopySource=source, status=404)
        named = {**source, "VersionId": marker}
        refused("InvalidRequest", t.s3.upload_part_copy, **at, PartNumber=2, CopySource=named, status=400)
        complete(t, at, [listed(1, done["CopyPartResult"])])
        equal(t.body("k"), b"old", "bytes of the old version")
        for version in (old, new, marker):
            t.s3.delete_object(Bucket=other, Key="a b+c", VersionId=version)
    finally:
        t.s3.delete_bucket(Bucket=other)


@case
def an_object_grows_out_of_itself(t):
    t.put("k", BODY[: 5 * MIB])
    at = begin(t, "k")
    own = copy_part(t, at, 1, "k")["CopyPartResult"]
    tail = t.s3.upload_part(**at, PartNumber=2, Body=BODY[5 * MIB :])
    complete(t, at, [listed(1, own), listed(2, tail)])
    assert t.body("k") == BODY, "bytes differ"


@case
def checksums_of_copied_parts(t):
    t.put("source", BODY, ChecksumAlgorithm="CRC32")
    first, last = 100, 6 * MIB
    piece = BODY[first : last + 1]
    for algorithm, kind in (("CRC32", "FULL_OBJECT"), ("CRC32", "COMPOSITE"), ("SHA256", "COMPOSITE"), ("CRC64NVME", "FULL_OBJECT")):
        name, field = algorithm.lower(), f"Checksum{algorithm}"
        if algorithm == "CRC64NVME":
            # The reference here is slow, and the whole is enough: a short object.
            t.put("source", b"12345", ChecksumAlgorithm="CRC32")
            first, last, piece = 1, 3, b"234"
        at = begin(t, "k", ChecksumAlgorithm=algorithm, ChecksumType=kind)
        done = copy_part(t, at, 1, "source", CopySourceRange=f"bytes={first}-{last}")["CopyPartResult"]
        equal(done[field], checksum(name, piece), f"{algorithm} of a range")
        equal(done["ETag"], f'"{hashlib.md5(piece).hexdigest()}"', "who reads knows the MD5")
        part = listed(1, done, **{field: done[field]})
        whole = complete(t, at, [part])
        equal(whole["ChecksumType"], kind, "kind")
        wanted = done[field] if kind == "FULL_OBJECT" else None
        assert wanted in (None, whole[field]), f"{whole[field]} instead of {wanted}"


@case
def the_same_part_copied_twice_has_one_tag(t):
    t.put("source", BODY)
    at = begin(t, "k")
    take = lambda number, first: copy_part(t, at, number, "source", CopySourceRange=f"bytes={first}-{6 * MIB}")
    one, two, three = (take(n, first)["CopyPartResult"]["ETag"] for n, first in ((1, 5), (2, 5), (3, 6)))
    equal(one, two, "the same bytes")
    assert one != three, "other bytes, the same tag"
    refused("InvalidPart", complete, t, at, [{"PartNumber": 1, "ETag": three}], status=400)


@case
def a_copy_into_a_part_needs_signed_headers(t):
    t.put("source", b"12345")
    at = begin(t, "k")
    query = f"partNumber=1&uploadId={at['UploadId']}"
    late = {"x-amz-copy-source": f"/{t.bucket}/source"}
    answered(t.raw.call("PUT", f"{t.path}/k", query, late=late), 403, "AccessDenied")
    ok = answered(t.raw.call("PUT", f"{t.path}/k", query, headers=late), 200)
    assert b"CopyPartResult" in ok.body, ok
