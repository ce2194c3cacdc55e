"""Cases of s3_suite.py: listings and bulk deletion."""

import concurrent.futures
import hashlib
import random
import urllib.parse

from s3_raw import b64
from s3_suite import answered, case, equal, refused

KEYS = sorted([f"a/{n:03}" for n in range(60)] + [f"b/{n}/x" for n in range(30)] + [f"k{n:02}" for n in range(25)] + ["z"])


def fill(t, keys=KEYS):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: t.put(key, key.encode()), keys))


def expected(prefix="", delimiter=None, after=""):
    """The listing by definition: (keys, common prefixes)."""
    keys, prefixes = [], []
    for key in KEYS:
        if not key.startswith(prefix) or key <= after:
            continue
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            rolled = prefix + rest.split(delimiter)[0] + delimiter
            if rolled not in prefixes and not (after and after.startswith(rolled)):
                prefixes.append(rolled)
        else:
            keys.append(key)
    return keys, prefixes


@case
def both_list_versions_agree_with_the_definition(t):
    fill(t)
    for operation in ("list_objects", "list_objects_v2"):
        for prefix, delimiter, size in [
            ("", None, 1000), ("", None, 7), ("", "/", 1000), ("", "/", 3), ("a/", None, 11), ("a/", "/", 11),
            ("b/", "/", 4), ("k", None, 1), ("nothing", None, 5), ("", "0", 5), ("b/1", "/", 2), ("z", "/", 1),
        ]:
            ask = {"Bucket": t.bucket, "Prefix": prefix, "PaginationConfig": {"PageSize": size}}
            if delimiter:
                ask["Delimiter"] = delimiter
            keys, prefixes = [], []
            for page in t.s3.get_paginator(operation).paginate(**ask):
                rows = page.get("Contents", []) + page.get("CommonPrefixes", [])
                assert len(rows) <= size, f"{len(rows)} rows for max-keys {size}"
                if operation == "list_objects_v2":
                    equal(page["KeyCount"], len(rows), "KeyCount")
                keys += [o["Key"] for o in page.get("Contents", [])]
                prefixes += [p["Prefix"] for p in page.get("CommonPrefixes", [])]
            equal((keys, prefixes), expected(prefix, delimiter), f"{operation} {prefix!r} {delimiter!r} by {size}")


@case
def rows_describe_their_objects(t):
    etag = t.put("k", b"12345")["ETag"]
    row = t.s3.list_objects_v2(Bucket=t.bucket, FetchOwner=True)["Contents"][0]
    equal((row["Key"], row["Size"], row["ETag"], row["StorageClass"]), ("k", 5, etag, "STANDARD"), "row")
    equal(row["LastModified"], t.head("k")["LastModified"], "Last-Modified")
    assert row["Owner"]["ID"], "no owner although asked"
    assert "Owner" not in t.s3.list_objects_v2(Bucket=t.bucket)["Contents"][0], "an owner unasked"


@case
def start_after_marker_and_tokens(t):
    fill(t)
    equal(t.keys(StartAfter="k05"), [k for k in KEYS if k > "k05"], "start-after")
    page = t.s3.list_objects(Bucket=t.bucket, Marker="k05", MaxKeys=3)
    equal([o["Key"] for o in page["Contents"]], ["k06", "k07", "k08"], "marker")
    first = t.s3.list_objects_v2(Bucket=t.bucket, MaxKeys=2, StartAfter="a/010")
    token = first["NextContinuationToken"]
    equal(t.keys(ContinuationToken=token, StartAfter="zzz")[0], "a/013", "the token wins")
    refused("InvalidArgument", t.s3.list_objects_v2, Bucket=t.bucket, ContinuationToken="no such token", status=400)


@case
def page_sizes_at_the_edges(t):
    fill(t)
    for call in (t.s3.list_objects_v2, t.s3.list_objects, t.s3.list_object_versions):
        page = call(Bucket=t.bucket, MaxKeys=0)
        equal((page["IsTruncated"], page.get("Contents", [])), (False, []), "max-keys 0")
        equal(call(Bucket=t.bucket, MaxKeys=5000)["MaxKeys"], 1000, "max-keys above the limit")
        refused("InvalidArgument", call, Bucket=t.bucket, MaxKeys=-1, status=400)
    answer = t.raw.call("GET", t.path, "list-type=2&max-keys=abc")
    answered(answer, 400, "InvalidArgument")
    answer = t.raw.call("GET", t.path, "list-type=2&encoding-type=base64")
    answered(answer, 400, "InvalidArgument")


@case
def keys_that_xml_cannot_carry(t):
    keys = ["a\x01b", "a\x7fb", "plain"]
    for key in keys[:2]:
        answered(t.raw.call("PUT", f"{t.path}/{urllib.parse.quote(key)}", body=b"x"), 200)
    t.put("plain")
    equal(t.keys(), sorted(keys), "url-encoded listing")
    answer = t.raw.call("GET", t.path, "list-type=2")
    assert answer.status < 500, f"a listing without encoding-type: {answer}"
    answer = t.raw.call("GET", t.path, "list-type=2&encoding-type=url")
    assert b"<Key>a%01b</Key>" in answer.body and b"<EncodingType>url</EncodingType>" in answer.body, answer.body[:500]


@case
def unversioned_buckets_list_null_versions(t):
    fill(t)
    versions = []
    for page in t.s3.get_paginator("list_object_versions").paginate(Bucket=t.bucket, PaginationConfig={"PageSize": 17}):
        versions += page.get("Versions", [])
        assert not page.get("DeleteMarkers"), "a delete marker"
    equal([v["Key"] for v in versions], KEYS, "keys")
    assert all(v["VersionId"] == "null" and v["IsLatest"] for v in versions), "not the null version"
    rolled = t.s3.list_object_versions(Bucket=t.bucket, Delimiter="/")
    equal([p["Prefix"] for p in rolled["CommonPrefixes"]], ["a/", "b/"], "common prefixes")
    t.put("k00", b"new")
    equal(len(t.s3.list_object_versions(Bucket=t.bucket, Prefix="k00")["Versions"]), 1, "versions after overwrite")
    equal(t.body("z", VersionId="null"), b"z", "the null version")
    t.s3.delete_object(Bucket=t.bucket, Key="z", VersionId="null")
    refused("NoSuchKey", t.get, "z")
    refused("InvalidArgument", t.get, "k00", VersionId="not-an-id", status=400)
    refused("NoSuchVersion", t.get, "k00", VersionId="0" * 32, status=404)


@case
def deleting_many(t):
    fill(t)
    bulk = [{"Key": key} for key in KEYS[:80]] + [{"Key": "absent"}]
    answer = t.s3.delete_objects(Bucket=t.bucket, Delete={"Objects": bulk})
    equal([d["Key"] for d in answer["Deleted"]], [d["Key"] for d in bulk], "deleted")
    equal(t.keys(), KEYS[80:], "left")
    quiet = t.s3.delete_objects(Bucket=t.bucket, Delete={"Objects": [{"Key": k} for k in KEYS[80:90]], "Quiet": True})
    equal((quiet.get("Deleted", []), quiet.get("Errors", [])), ([], []), "quiet")
    tag = t.head(KEYS[95])["ETag"]
    mixed = t.s3.delete_objects(
        Bucket=t.bucket,
        Delete={"Objects": [{"Key": KEYS[94], "ETag": '"no"'}, {"Key": KEYS[95], "ETag": tag}]},
    )
    equal([(e["Key"], e["Code"]) for e in mixed["Errors"]], [(KEYS[94], "PreconditionFailed")], "errors")
    equal([d["Key"] for d in mixed["Deleted"]], [KEYS[95]], "deleted")
    equal(t.keys(), [k for k in KEYS[90:] if k != KEYS[95]], "left")


@case
def bad_bulk_deletions_delete_nothing(t):
    t.put("k")
    many = [{"Key": f"{n}"} for n in range(1001)]
    refused("MalformedXML", t.s3.delete_objects, Bucket=t.bucket, Delete={"Objects": many}, status=400)
    for body, code in [
        (b"<Delete></Delete>", "MalformedXML"), (b"", None), (b"<Delete><Object><Key>k</Key></Object>", "MalformedXML"),
        (b"not xml", "MalformedXML"), (b"<Delete><Object></Object></Delete>", "MalformedXML"),
        (b"<Other><Object><Key>k</Key></Object></Other>", "MalformedXML"),
    ]:
        answer = t.raw.call("POST", t.path, "delete=", headers={"content-md5": b64(hashlib.md5(body).digest())}, body=body)
        assert answer.status == 400 and code in (None, answer.code), f"{body}: {answer}"
    good = b"<Delete><Object><Key>k</Key></Object></Delete>"
    wrong = {"content-md5": b64(hashlib.md5(b"other").digest())}
    answered(t.raw.call("POST", t.path, "delete=", headers=wrong, body=good), 400, "BadDigest")
    answered(t.raw.call("POST", t.path, "delete=", body=good), 400, "InvalidRequest")
    equal(t.keys(), ["k"], "keys")


@case
def a_committed_key_is_listed_at_once(t):
    rng = random.Random(7)

    def one(worker):
        for n in range(25):
            key = f"{rng.randrange(10)}/{worker}/{n}"
            t.put(key)
            assert key in t.keys(Prefix=key), f"{key} is not listed"
            if n % 3 == 0:
                t.s3.delete_object(Bucket=t.bucket, Key=key)
                assert key not in t.keys(Prefix=key), f"{key} is listed after its deletion"

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
