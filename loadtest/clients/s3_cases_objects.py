"""Cases of s3_suite.py: buckets, objects, ranges, conditions, checksums, presigned URLs."""

import concurrent.futures
import datetime
import hashlib
import random
import urllib.request

from botocore.exceptions import ClientError

from s3_raw import CHECKSUMS, b64, checksum
from s3_suite import answered, case, equal, refused

MIB = 1024 * 1024
DATA = random.Random(1).randbytes(300_000)
ODD_KEYS = [
    "plain", "a/b/c", "//two//slashes", "trailing/", ".", "..", "a/../b", "a/./b", "with space", "plus+plus",
    "per%cent", "%2F", "ünïcödé", "e\u0301", "\u00e9", "日本/語", "emoji😀", "q?uestion", "h#ash", "am&per", "eq=ual",
    "quo\"te'", "<xml>", "semi;colon", "back\\slash", "tilde~", "a" * 1024, "é" * 512, "tab\there", "new\nline",
    "*", "@:,$!()", "[brackets]{}|^`",
]


@case
def buckets_are_made_listed_and_removed(t):
    names = [b["Name"] for b in t.s3.list_buckets()["Buckets"]]
    assert t.bucket in names and names == sorted(names), "not listed in order"
    head = t.s3.head_bucket(Bucket=t.bucket)["ResponseMetadata"]["HTTPHeaders"]
    equal(head.get("x-amz-bucket-region"), "us-east-1", "region")
    equal(t.s3.get_bucket_location(Bucket=t.bucket)["LocationConstraint"], None, "location")
    try:
        t.s3.create_bucket(Bucket=t.bucket)
    except ClientError as error:
        equal(error.response["Error"]["Code"], "BucketAlreadyOwnedByYou", "second creation")
    t.put("k")
    refused("BucketNotEmpty", t.s3.delete_bucket, Bucket=t.bucket, status=409)
    missing = t.bucket + "-missing"
    refused("404", t.s3.head_bucket, Bucket=missing, status=404)
    refused("NoSuchBucket", t.s3.delete_bucket, Bucket=missing, status=404)
    refused("NoSuchBucket", t.s3.put_object, Bucket=missing, Key="k", Body=b"", status=404)
    refused("NoSuchBucket", t.s3.get_object, Bucket=missing, Key="k", status=404)
    refused("NoSuchBucket", t.s3.list_objects_v2, Bucket=missing, status=404)


@case
def a_bucket_can_be_made_again_and_is_empty(t):
    t.put("k")
    t.s3.delete_object(Bucket=t.bucket, Key="k")
    t.s3.delete_bucket(Bucket=t.bucket)
    refused("NoSuchBucket", t.put, "k")
    t.s3.create_bucket(Bucket=t.bucket)
    equal(t.keys(), [], "keys of the new bucket")
    refused("NoSuchKey", t.get, "k")


@case
def bodies_of_many_sizes_come_back(t):
    for size in (0, 1, 4096, 262_143, 262_145, MIB, 5 * MIB + 1, 9 * MIB + 7):
        body = random.Random(size).randbytes(size)
        put = t.put(f"size-{size}", body)
        equal(put["ETag"], f'"{hashlib.md5(body).hexdigest()}"', "ETag")
        got = t.get(f"size-{size}")
        equal(got["ContentLength"], size, "length")
        equal(hashlib.sha256(got["Body"].read()).hexdigest(), hashlib.sha256(body).hexdigest(), "bytes")
        equal(got["ETag"], put["ETag"], "ETag of GET")
        equal(t.head(f"size-{size}")["ContentLength"], size, "length of HEAD")


@case
def headers_and_metadata_come_back(t):
    expires = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    given = {
        "ContentType": "application/dicom", "ContentEncoding": "gzip", "ContentLanguage": "de",
        "ContentDisposition": 'attachment; filename="x"', "CacheControl": "max-age=7", "Expires": expires,
        "Metadata": {"patient": "none", "mixed-case": "Value With Spaces", "accent": "naïve ✓"},
    }
    t.put("k", DATA, **{**given, "Metadata": {"patient": "none", "mixed-case": "Value With Spaces"}})
    for answer in (t.get("k"), t.head("k")):
        for name in ("ContentType", "ContentEncoding", "ContentLanguage", "ContentDisposition", "CacheControl", "Expires"):
            equal(answer[name], given[name], name)
        equal(answer["Metadata"], {"patient": "none", "mixed-case": "Value With Spaces"}, "metadata")
        equal(answer["AcceptRanges"], "bytes", "accept-ranges")
        age = datetime.datetime.now(datetime.timezone.utc) - answer["LastModified"]
        assert abs(age) < datetime.timedelta(minutes=5), f"Last-Modified is {age} old"
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        equal(len(headers["x-stele-object-root"]), 64, "object root")
        log, _, index = headers["x-stele-log"].partition("/")
        assert log and index.isdigit(), f"x-stele-log is {headers['x-stele-log']}"
        equal(headers.get("server"), "Stele", "server")
    t.put("bare")
    equal(t.head("bare")["ContentType"], "binary/octet-stream", "default content type")


@case
def content_type_of_an_unlabelled_put_is_the_default(t):
    answered(t.raw.call("PUT", f"{t.path}/k", body=b"x"), 200)
    equal(t.head("k")["ContentType"], "binary/octet-stream", "content type")


@case
def same_bytes_have_the_same_root_and_every_put_its_own_log_entry(t):
    one, two = t.put("a", DATA), t.put("b", DATA)
    headers = [p["ResponseMetadata"]["HTTPHeaders"] for p in (one, two)]
    equal(headers[0]["x-stele-object-root"], headers[1]["x-stele-object-root"], "roots")
    assert headers[0]["x-stele-log"] != headers[1]["x-stele-log"], "one log entry for two objects"


@case
def metadata_is_limited_to_2_kib(t):
    t.put("k", Metadata={"a": "v" * 2000})
    refused("MetadataTooLarge", t.put, "k2", Metadata={"a": "v" * 2100}, status=400)
    refused("NoSuchKey", t.get, "k2")


@case
def odd_keys_are_kept_as_they_are(t):
    for key in ODD_KEYS:
        t.put(key, key.encode())
    for key in ODD_KEYS:
        equal(t.body(key), key.encode(), f"body of {key[:30]!r}")
    listed = t.keys()
    equal(listed, sorted(ODD_KEYS, key=lambda k: k.encode()), "listing")
    for key in ODD_KEYS:
        t.s3.delete_object(Bucket=t.bucket, Key=key)
        refused("NoSuchKey", t.get, key)
    equal(t.keys(), [], "left")


@case
def a_key_has_at_most_1024_bytes(t):
    refused("KeyTooLongError", t.put, "k" * 1025, status=400)
    refused("KeyTooLongError", t.put, "é" * 513, status=400)


@case
def overwrite_and_delete(t):
    t.put("k", b"one")
    t.put("k", b"two")
    equal(t.body("k"), b"two", "after overwrite")
    for _ in range(2):
        equal(t.s3.delete_object(Bucket=t.bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"], 204, "delete")
    refused("NoSuchKey", t.get, "k", status=404)
    refused("404", t.head, "k", status=404)


@case
def ranges_are_exact(t):
    body = random.Random(3).randbytes(3 * MIB)
    t.put("k", body)
    size = len(body)
    for text, first, last in [
        ("0-0", 0, 0), ("5-", 5, size - 1), ("-5", size - 5, size - 1), ("100-999999999", 100, size - 1),
        (f"-{size + 9}", 0, size - 1), ("1048570-1048590", 1048570, 1048590), (f"{size - 1}-", size - 1, size - 1),
    ]:
        got = t.get("k", Range=f"bytes={text}")
        equal(got["ResponseMetadata"]["HTTPStatusCode"], 206, text)
        equal(got["ContentRange"], f"bytes {first}-{last}/{size}", text)
        assert got["Body"].read() == body[first : last + 1], f"bytes of {text}"
        head = t.head("k", Range=f"bytes={text}")
        equal((head["ResponseMetadata"]["HTTPStatusCode"], head["ContentLength"]), (206, last - first + 1), f"HEAD {text}")
    rng = random.Random(4)
    for _ in range(40):
        first = rng.randrange(size)
        last = min(size - 1, first + rng.randrange(200_000))
        assert t.body("k", Range=f"bytes={first}-{last}") == body[first : last + 1], f"bytes {first}-{last}"


@case
def ranges_outside_are_416_and_odd_ones_ignored(t):
    t.put("k", b"0123456789")
    answer = refused("InvalidRange", t.get, "k", Range="bytes=10-", status=416)
    equal(answer["ResponseMetadata"]["HTTPHeaders"].get("content-range"), "bytes */10", "Content-Range")
    refused("InvalidRange", t.get, "k", Range="bytes=-0", status=416)
    t.put("empty", b"")
    refused("InvalidRange", t.get, "empty", Range="bytes=0-", status=416)
    for odd in ("bytes=5-2", "bytes=0-1,3-4", "lines=1-2", "bytes=x"):
        answer = t.raw.call("GET", f"{t.path}/k", late={"range": odd})
        equal((answer.status, answer.body), (200, b"0123456789"), odd)
    equal(t.raw.call("GET", f"{t.path}/k", late={"range": "bytes=2-3"}).body, b"23", "unsigned range")


@case
def conditional_reads(t):
    etag = t.put("k", b"x")["ETag"]
    modified = t.head("k")["LastModified"]
    hour = datetime.timedelta(hours=1)
    for call in (t.get, t.head):
        equal(call("k", IfMatch=etag)["ETag"], etag, "If-Match")
        equal(call("k", IfNoneMatch='"other"')["ETag"], etag, "If-None-Match")
        equal(call("k", IfModifiedSince=modified - hour)["ETag"], etag, "If-Modified-Since")
        equal(call("k", IfUnmodifiedSince=modified)["ETag"], etag, "If-Unmodified-Since")
        equal(call("k", IfMatch=etag, IfUnmodifiedSince=modified - hour)["ETag"], etag, "both")
        refused(("412", "PreconditionFailed"), call, "k", IfMatch='"other"', status=412)
        refused(("412", "PreconditionFailed"), call, "k", IfUnmodifiedSince=modified - hour, status=412)
        answer = refused(("304", "NotModified"), call, "k", IfNoneMatch=etag, status=304)
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        equal(headers.get("etag"), etag, "ETag of 304")
        assert headers.get("last-modified"), "304 without Last-Modified"
        refused(("304", "NotModified"), call, "k", IfModifiedSince=modified, status=304)
        refused(("304", "NotModified"), call, "k", IfNoneMatch=etag, IfModifiedSince=modified - hour, status=304)


@case
def conditional_writes(t):
    etag = t.put("k", b"one", IfNoneMatch="*")["ETag"]
    refused("PreconditionFailed", t.put, "k", b"two", IfNoneMatch="*", status=412)
    refused("PreconditionFailed", t.put, "k", b"two", IfMatch='"00000000000000000000000000000000"', status=412)
    refused("NoSuchKey", t.put, "absent", b"two", IfMatch=etag, status=404)
    refused("NotImplemented", t.put, "k", b"two", IfNoneMatch=etag, status=501)
    equal(t.body("k"), b"one", "after refusals")
    new = t.put("k", b"two", IfMatch=etag)["ETag"]
    refused("PreconditionFailed", t.s3.delete_object, Bucket=t.bucket, Key="k", IfMatch=etag, status=412)
    t.s3.delete_object(Bucket=t.bucket, Key="k", IfMatch=new)
    refused("NoSuchKey", t.get, "k")
    t.put("k", b"again", IfNoneMatch="*")


@case
def of_racing_creations_exactly_one_wins(t):
    def create(body):
        try:
            t.put(key, body, IfNoneMatch="*")
            return body
        except ClientError as error:
            code = error.response["Error"]["Code"]
            assert code in ("PreconditionFailed", "ConditionalRequestConflict"), code
            return None

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for round_number in range(10):
            key = f"race-{round_number}"
            won = [w for w in pool.map(create, [f"{key}-{n}".encode() for n in range(16)]) if w]
            equal(len(won), 1, "winners")
            equal(t.body(key), won[0], "winner's bytes")


@case
def a_counter_by_compare_and_swap_loses_nothing(t):
    t.put("counter", b"0")

    def increment(_):
        done = 0
        while done < 8:
            got = t.get("counter")
            value = int(got["Body"].read())
            try:
                t.put("counter", str(value + 1).encode(), IfMatch=got["ETag"])
                done += 1
            except ClientError as error:
                assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"), error

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(increment, range(6)))
    equal(t.body("counter"), b"48", "counter")


@case
def checksums_are_verified_stored_and_given_back(t):
    for name in CHECKSUMS:
        header, value = f"x-amz-checksum-{name}", checksum(name, b"hello stele")
        put = answered(t.raw.call("PUT", f"{t.path}/{name}", headers={header: value}, body=b"hello stele"), 200)
        equal(put.headers.get(header), value, "PUT's answer")
        for method in ("GET", "HEAD"):
            plain = answered(t.raw.call(method, f"{t.path}/{name}"), 200)
            assert header not in plain.headers, f"{method} gives {header} unasked"
            asked = answered(t.raw.call(method, f"{t.path}/{name}", headers={"x-amz-checksum-mode": "ENABLED"}), 200)
            equal(asked.headers.get(header), value, method)
            equal(asked.headers.get("x-amz-checksum-type"), "FULL_OBJECT", "type")
        part = t.raw.call("GET", f"{t.path}/{name}", headers={"x-amz-checksum-mode": "ENABLED"}, late={"range": "bytes=0-1"})
        assert part.status == 206 and header not in part.headers, "a checksum of the whole with a part of the bytes"
        wrong = t.raw.call("PUT", f"{t.path}/wrong", headers={header: checksum(name, b"x")}, body=b"hello stele")
        answered(wrong, 400, "BadDigest")
        short = t.raw.call("PUT", f"{t.path}/wrong", headers={header: "AAAA"}, body=b"hello stele")
        answered(short, 400, "InvalidRequest")
    refused("NoSuchKey", t.get, "wrong")


@case
def a_put_without_checksum_gets_crc64nvme(t):
    answered(t.raw.call("PUT", f"{t.path}/k", body=b"hello stele"), 200)
    got = t.head("k", ChecksumMode="ENABLED")
    equal(got.get("ChecksumCRC64NVME"), checksum("crc64nvme", b"hello stele"), "CRC64NVME")


@case
def content_md5_is_verified(t):
    good, bad = b64(hashlib.md5(b"hello").digest()), b64(hashlib.md5(b"other").digest())
    answered(t.raw.call("PUT", f"{t.path}/k", headers={"content-md5": good}, body=b"hello"), 200)
    answered(t.raw.call("PUT", f"{t.path}/no", headers={"content-md5": bad}, body=b"hello"), 400, "BadDigest")
    answered(t.raw.call("PUT", f"{t.path}/no", headers={"content-md5": "nonsense"}, body=b"hello"), 400, "InvalidDigest")
    refused("NoSuchKey", t.get, "no")


@case
def boto_verifies_what_it_reads(t):
    for algorithm in ("CRC32", "SHA1", "SHA256"):
        t.put(algorithm, DATA, ChecksumAlgorithm=algorithm)
        got = t.get(algorithm, ChecksumMode="ENABLED")
        equal(got["Body"].read(), DATA, algorithm)
        assert got.get(f"Checksum{algorithm}"), f"no {algorithm}"


@case
def streaming_uploads_are_decoded(t):
    pieces = [random.Random(n).randbytes(n) for n in (65_536, 65_536, 777)]
    answered(t.raw.signed_chunks(f"{t.path}/signed", pieces, headers={"content-type": "text/plain"}), 200)
    equal(t.body("signed"), b"".join(pieces), "signed chunks")
    assert "ContentEncoding" not in t.head("signed"), "aws-chunked was stored"
    answered(t.raw.unsigned_trailer(f"{t.path}/t", DATA, "x-amz-checksum-crc32", checksum("crc32", DATA)), 200)
    equal(t.body("t"), DATA, "unsigned chunks with trailer")
    equal(t.head("t", ChecksumMode="ENABLED")["ChecksumCRC32"], checksum("crc32", DATA), "trailing checksum")
    answered(t.raw.unsigned_trailer(f"{t.path}/e", b"", "x-amz-checksum-crc32", checksum("crc32", b"")), 200)
    equal(t.body("e"), b"", "empty body with trailer")


@case
def streaming_uploads_that_lie_are_refused(t):
    name = "x-amz-checksum-crc32"
    answered(t.raw.signed_chunks(f"{t.path}/no", [b"a" * 65_536, b"b"], spoil=True), 403, "SignatureDoesNotMatch")
    answered(t.raw.unsigned_trailer(f"{t.path}/no", DATA, name, checksum("crc32", b"x")), 400, "BadDigest")
    answered(t.raw.unsigned_trailer(f"{t.path}/no", DATA, name, None), 400)
    answered(t.raw.unsigned_trailer(f"{t.path}/no", DATA, name, "AAAA"), 400)
    answered(t.raw.unsigned_trailer(f"{t.path}/no", DATA, name, checksum("crc32", DATA), decoded=len(DATA) + 1), 400)
    answered(t.raw.unsigned_trailer(f"{t.path}/no", DATA, name, checksum("crc32", DATA), decoded=len(DATA) - 1), 400)
    refused("NoSuchKey", t.get, "no")


@case
def copies_keep_bytes_headers_and_roots(t):
    big = random.Random(5).randbytes(9 * MIB)
    for key, body in (("small", b"small body"), ("big", big), ("empty", b"")):
        put = t.put(key, body, Metadata={"a": "b"}, ContentType="text/x-source")
        done = t.s3.copy_object(Bucket=t.bucket, Key=f"copy of {key}", CopySource={"Bucket": t.bucket, "Key": key})
        equal(done["CopyObjectResult"]["ETag"], put["ETag"], "ETag")
        root = done["ResponseMetadata"]["HTTPHeaders"]["x-stele-object-root"]
        equal(root, put["ResponseMetadata"]["HTTPHeaders"]["x-stele-object-root"], "root")
        t.s3.delete_object(Bucket=t.bucket, Key=key)
        got = t.get(f"copy of {key}")
        assert got["Body"].read() == body, f"bytes of the copy of {key}"
        equal((got["Metadata"], got["ContentType"]), ({"a": "b"}, "text/x-source"), "headers")


@case
def copies_find_oddly_named_sources(t):
    for key in ODD_KEYS[:-3]:
        t.put(key, key.encode())
        t.s3.copy_object(Bucket=t.bucket, Key="copy", CopySource={"Bucket": t.bucket, "Key": key})
        equal(t.body("copy"), key.encode(), f"copy of {key[:30]!r}")
    t.put("with space+plus", b"form")
    source = {"x-amz-copy-source": f"{t.bucket}%2Fwith+space%2Bplus"}
    answered(t.raw.call("PUT", f"{t.path}/copy", headers=source), 200)
    equal(t.body("copy"), b"form", "source escaped as forms are")


@case
def copies_with_directives_and_conditions(t):
    etag = t.put("k", b"x", Metadata={"a": "b"})["ETag"]
    copy = lambda key, **more: t.s3.copy_object(Bucket=t.bucket, Key=key, CopySource=f"{t.bucket}/k", **more)
    refused("InvalidRequest", copy, "k", status=400)
    copy("k", MetadataDirective="REPLACE", Metadata={"c": "d"})
    equal((t.head("k")["Metadata"], t.body("k")), ({"c": "d"}, b"x"), "after replacing its own metadata")
    refused("PreconditionFailed", copy, "c", CopySourceIfMatch='"other"', status=412)
    refused("PreconditionFailed", copy, "c", CopySourceIfNoneMatch=etag, status=412)
    copy("c", CopySourceIfMatch=etag, IfNoneMatch="*")
    refused("PreconditionFailed", copy, "c", IfNoneMatch="*", status=412)
    refused("NoSuchKey", t.s3.copy_object, Bucket=t.bucket, Key="c", CopySource=f"{t.bucket}/absent", status=404)
    refused("NoSuchBucket", t.s3.copy_object, Bucket=t.bucket, Key="c", CopySource="no-such-bucket-here/k", status=404)
    refused("NoSuchBucket", t.s3.copy_object, Bucket="no-such-bucket-here", Key="c", CopySource=f"{t.bucket}/k", status=404)
    equal(t.keys(), ["c", "k"], "keys")


@case
def presigned_urls(t):
    put = t.s3.generate_presigned_url("put_object", {"Bucket": t.bucket, "Key": "k"}, ExpiresIn=60)
    urllib.request.urlopen(urllib.request.Request(put, data=b"presigned", method="PUT"), context=t.raw.tls).read()
    params = {"Bucket": t.bucket, "Key": "k", "ResponseContentType": "text/x-override", "ResponseCacheControl": "no-store"}
    get = t.s3.generate_presigned_url("get_object", params, ExpiresIn=60)
    with urllib.request.urlopen(get, context=t.raw.tls) as answer:
        equal(answer.read(), b"presigned", "body")
        equal(answer.headers["content-type"], "text/x-override", "override")
        equal(answer.headers["cache-control"], "no-store", "override")
    good = t.raw.presign("GET", f"{t.path}/k")
    answered(t.raw.plain("GET", good), 200)
    answered(t.raw.plain("GET", good[:-1] + ("0" if good[-1] != "0" else "1")), 403, "SignatureDoesNotMatch")
    answered(t.raw.plain("DELETE", good), 403, "SignatureDoesNotMatch")
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=120)
    answered(t.raw.plain("GET", t.raw.presign("GET", f"{t.path}/k", when=past)), 403, "AccessDenied")
    old = t.client(signature_version="s3").generate_presigned_url("get_object", {"Bucket": t.bucket, "Key": "k"})
    answer = answered(t.raw.plain("GET", old[len(t.url) :]), 400, "InvalidRequest")
    assert b"s3v4" in answer.body, "no advice about signature version 2"
    equal(t.body("k"), b"presigned", "after refusals")


@case
def probes_of_common_clients(t):
    assert "Status" not in t.s3.get_bucket_versioning(Bucket=t.bucket), "versioning is not set"
    equal(t.s3.get_bucket_acl(Bucket=t.bucket)["Grants"][0]["Permission"], "FULL_CONTROL", "bucket ACL")
    t.put("k")
    equal(t.s3.get_object_acl(Bucket=t.bucket, Key="k")["Grants"][0]["Permission"], "FULL_CONTROL", "object ACL")
    for code, call in [
        ("NoSuchBucketPolicy", t.s3.get_bucket_policy), ("NoSuchTagSet", t.s3.get_bucket_tagging),
        ("NoSuchCORSConfiguration", t.s3.get_bucket_cors),
        ("NoSuchLifecycleConfiguration", t.s3.get_bucket_lifecycle_configuration),
        ("ServerSideEncryptionConfigurationNotFoundError", t.s3.get_bucket_encryption),
        ("ObjectLockConfigurationNotFoundError", t.s3.get_object_lock_configuration),
    ]:
        refused(code, call, Bucket=t.bucket, status=404)
        refused("NoSuchBucket", call, Bucket=t.bucket + "-missing", status=404)
