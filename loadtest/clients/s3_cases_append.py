"""Cases of s3_suite.py: appending to objects, and giving them other keys."""

import concurrent.futures
import hashlib
import random
import uuid

from s3_raw import checksum
from s3_suite import answered, case, equal, refused

MIB = 1024 * 1024


def append(t, key, offset, body, **more):
    return t.put(key, body, WriteOffsetBytes=offset, **more)


@case
def an_object_grows_by_appends(t):
    pieces = [random.Random(n).randbytes(size) for n, size in enumerate((1000, 1, 0, 3 * MIB, 70_000, 9 * MIB, 5))]
    done = append(t, "k", 0, pieces[0], Metadata={"a": "b"}, ContentType="text/x-log")
    equal(done["ETag"], f'"{hashlib.md5(pieces[0]).hexdigest()}"', "ETag of the first piece")
    whole, etags = pieces[0], {done["ETag"]}
    for number, piece in enumerate(pieces[1:], 2):
        done = append(t, "k", len(whole), piece)
        whole += piece
        equal(done["Size"], len(whole), "size in the answer")
        assert done["ETag"].endswith(f'-{number}"') and len(done["ETag"].split("-")[0]) == 33, done["ETag"]
        etags.add(done["ETag"])
        got = t.get("k")
        assert got["Body"].read() == whole, f"bytes after {number} pieces"
        equal((got["ETag"], got["ContentLength"]), (done["ETag"], len(whole)), "ETag and length")
        equal((got["Metadata"], got["ContentType"]), ({"a": "b"}, "text/x-log"), "headers")
    equal(len(etags), len(pieces), "each append has a tag of its own")
    row = t.s3.list_objects_v2(Bucket=t.bucket)["Contents"][0]
    equal((row["Size"], row["ETag"]), (len(whole), done["ETag"]), "listing")
    for number, piece in enumerate(pieces, 1):
        if piece:
            got = t.get("k", PartNumber=number)
            assert got["Body"].read() == piece, f"part {number}"
            equal(got["PartsCount"], len(pieces), "parts")


@case
def a_wrong_offset_is_refused(t):
    refused("InvalidWriteOffset", append, t, "k", 1, b"x", status=400)
    append(t, "k", 0, b"12345")
    for wrong in (0, 4, 6, 2**60):
        refused("InvalidWriteOffset", append, t, "k", wrong, b"x", status=400)
    answered(t.raw.call("PUT", f"{t.path}/k", headers={"x-amz-write-offset-bytes": "-1"}, body=b"x"), 400, "InvalidArgument")
    equal(t.body("k"), b"12345", "nothing was appended")
    append(t, "k", 5, b"6")
    t.s3.delete_object(Bucket=t.bucket, Key="k")
    refused("InvalidWriteOffset", append, t, "k", 6, b"x", status=400)


@case
def appends_keep_what_the_object_has(t):
    t.put("k", b"12345", Metadata={"a": "b"}, CacheControl="no-store", Tagging="x=y")
    for wrong in ({"Metadata": {"c": "d"}}, {"CacheControl": "private"}, {"Tagging": "u=v"}, {"ContentEncoding": "gzip"}):
        refused("InvalidRequest", append, t, "k", 5, b"6", **wrong, status=400)
    append(t, "k", 5, b"6", ContentType="application/octet-stream")
    got = t.get("k")
    equal((got["Metadata"], got["CacheControl"], got["TagCount"]), ({"a": "b"}, "no-store", 1), "what it had")


@case
def conditions_of_appends(t):
    refused("NoSuchKey", append, t, "k", 0, b"x", IfMatch='"x"', status=404)
    etag = append(t, "k", 0, b"12345", IfNoneMatch="*")["ETag"]
    refused("PreconditionFailed", append, t, "k", 5, b"x", IfNoneMatch="*", status=412)
    refused("PreconditionFailed", append, t, "k", 5, b"x", IfMatch='"other"', status=412)
    append(t, "k", 5, b"6", IfMatch=etag)
    refused("PreconditionFailed", append, t, "k", 6, b"x", IfMatch=etag, status=412)
    equal(t.body("k"), b"123456", "bytes")


@case
def checksums_go_on_over_appends(t):
    for algorithm in ("CRC32", "CRC32C", "CRC64NVME"):
        field, name = f"Checksum{algorithm}", algorithm.lower()
        t.put("k", b"12345", **{field: checksum(name, b"12345")})
        append(t, "k", 5, b"678", **{field: checksum(name, b"678")})
        # With the last piece the client sends a checksum of another algorithm.
        append(t, "k", 8, b"9", ChecksumAlgorithm="SHA256")
        got = t.head("k", ChecksumMode="ENABLED")
        equal(got[field], checksum(name, b"123456789"), algorithm)
        equal(got["ChecksumType"], "FULL_OBJECT", "kind")
    t.put("k", b"12345", ChecksumAlgorithm="SHA256")
    append(t, "k", 5, b"6", ChecksumAlgorithm="SHA256")
    got = t.head("k", ChecksumMode="ENABLED")
    assert "ChecksumSHA256" not in got, "SHA-256 of two pieces can't be joined"
    wrong = {"x-amz-write-offset-bytes": "6", "x-amz-checksum-crc32": checksum("crc32", b"other")}
    answered(t.raw.call("PUT", f"{t.path}/k", headers=wrong, body=b"7"), 400, "BadDigest")
    equal(t.body("k"), b"123456", "nothing was appended")


@case
def of_racing_appends_one_wins_each_offset(t):
    t.put("k", b"")
    piece = lambda n: bytes([n]) * 1000
    rounds, writers = 12, 8
    with concurrent.futures.ThreadPoolExecutor(writers) as pool:
        offset = 0
        for _ in range(rounds):
            def attempt(n, at=offset):
                try:
                    append(t, "k", at, piece(n))
                    return n
                except t.s3.exceptions.InvalidWriteOffset:
                    return None

            won = [n for n in pool.map(attempt, range(1, writers + 1)) if n is not None]
            equal(len(won), 1, "winners")
            body = t.body("k")
            equal((len(body), body[-1000:]), (offset + 1000, piece(won[0])), "the winner's piece is the last")
            offset += 1000


@case
def appends_to_multipart_objects_and_copies(t):
    parts = [random.Random(n).randbytes(5 * MIB) for n in range(2)]
    t.upload("k", parts)
    done = append(t, "k", 10 * MIB, b"tail")
    assert done["ETag"].endswith('-3"'), done["ETag"]
    t.s3.copy_object(Bucket=t.bucket, Key="copy", CopySource=f"{t.bucket}/k")
    append(t, "k", 10 * MIB + 4, b"!")
    append(t, "copy", 10 * MIB + 4, b"?")
    whole = b"".join(parts) + b"tail"
    assert t.body("k") == whole + b"!" and t.body("copy") == whole + b"?", "bytes differ"
    t.s3.delete_object(Bucket=t.bucket, Key="k")
    assert t.body("copy") == whole + b"?", "the copy needs the original"


@case
def versioned_buckets_take_no_appends_and_no_renames(t):
    t.put("k", b"12345")
    for status in ("Enabled", "Suspended"):
        t.s3.put_bucket_versioning(Bucket=t.bucket, VersioningConfiguration={"Status": status})
        refused("InvalidRequest", append, t, "k", 5, b"6", status=400)
        refused("InvalidRequest", rename, t, "k", "to", status=400)
    equal(t.body("k"), b"12345", "bytes")
    t.s3.delete_object(Bucket=t.bucket, Key="k", VersionId="null")


def rename(t, source, to, **more):
    return t.s3.rename_object(Bucket=t.bucket, Key=to, RenameSource=f"/{t.bucket}/{source}", **more)


@case
def objects_get_other_keys(t):
    body = random.Random(9).randbytes(9 * MIB)
    t.put("from", body, Metadata={"a": "b"}, Tagging="x=y")
    before = t.head("from")
    t.put("to", b"replaced")
    rename(t, "from", "to")
    refused("NoSuchKey", t.get, "from", status=404)
    got = t.get("to")
    assert got["Body"].read() == body, "bytes differ"
    for field in ("ETag", "LastModified", "Metadata", "ContentType"):
        equal(got[field], before[field], field)
    equal((t.keys(), got["TagCount"]), (["to"], 1), "keys and tags")
    rename(t, "to", "a b/ü+%")
    equal(t.keys(), ["a b/ü+%"], "keys")
    raw = {"x-amz-rename-source": f"{t.bucket}/a%20b/%C3%BC%2B%25"}
    answered(t.raw.call("PUT", f"{t.path}/back", "renameObject=", headers=raw), 200)
    assert t.body("back") == body, "bytes differ"


@case
def renames_that_cannot_be(t):
    etag = t.put("from", b"12345")["ETag"]
    other = t.put("to", b"other")["ETag"]
    refused("NoSuchKey", rename, t, "absent", "to", status=404)
    refused("InvalidRequest", rename, t, "from", "from", status=400)
    foreign = {"Bucket": t.bucket, "Key": "to", "RenameSource": "/another-bucket/from"}
    refused("InvalidRequest", t.s3.rename_object, **foreign, status=400)
    long_ago = t.head("to")["LastModified"].replace(year=2000)
    modified = t.head("from")["LastModified"]
    for wrong in (
        {"DestinationIfNoneMatch": "*"},
        {"DestinationIfMatch": '"x"'},
        {"DestinationIfUnmodifiedSince": long_ago},
        {"SourceIfMatch": '"x"'},
        {"SourceIfNoneMatch": etag},
        {"SourceIfNoneMatch": "*"},
        {"SourceIfUnmodifiedSince": long_ago},
        {"SourceIfModifiedSince": modified},
    ):
        refused("PreconditionFailed", rename, t, "from", "to", **wrong, status=412)
    refused("PreconditionFailed", rename, t, "from", "absent", DestinationIfMatch=other, status=412)
    equal((t.body("from"), t.body("to")), (b"12345", b"other"), "nothing moved")
    rename(t, "from", "to", SourceIfMatch=etag, DestinationIfMatch=other)
    rename(t, "to", "new", DestinationIfNoneMatch="*", SourceIfModifiedSince=long_ago)
    equal(t.body("new"), b"12345", "bytes")


@case
def a_rename_with_a_token_happens_once(t):
    t.put("from", b"12345")
    token = str(uuid.uuid4())
    rename(t, "from", "to", ClientToken=token)
    rename(t, "from", "to", ClientToken=token)
    t.put("from", b"again")
    rename(t, "from", "to", ClientToken=token)
    equal((t.body("from"), t.body("to")), (b"again", b"12345"), "the second one did nothing")
    refused("IdempotencyParameterMismatch", rename, t, "from", "other", ClientToken=token, status=400)
    refused("InvalidArgument", rename, t, "from", "other", ClientToken="with space", status=400)
    rename(t, "from", "to", ClientToken=str(uuid.uuid4()))
    equal(t.body("to"), b"again", "bytes")


@case
def of_racing_renames_one_wins(t):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(6):
            t.put("from", b"12345")

            def attempt(n):
                try:
                    rename(t, "from", f"to {n}")
                    return n
                except t.s3.exceptions.ClientError as error:
                    assert error.response["Error"]["Code"] == "NoSuchKey", error
                    return None

            won = [n for n in pool.map(attempt, range(8)) if n is not None]
            equal((len(won), t.keys()), (1, [f"to {won[0]}"]), "winners and keys")
            t.s3.delete_object(Bucket=t.bucket, Key=f"to {won[0]}")
