"""Cases of s3_suite.py: names. Buckets are listed by page and prefix; keys are kept byte by byte, in every operation and
every listing."""

import hashlib
import unicodedata
import urllib.parse
import xml.etree.ElementTree

from s3_raw import EMPTY_SHA256
from s3_suite import answered, case, equal, refused

# What stores that map keys to paths, or tidy them up, get wrong.
ODD = [
    "//", "/", "/leading", "trailing/", "a//b", "a/./b", "a/../b", ".", "..", "./", "../../etc/passwd", "a/..", "%2F", "a%2Fb", "a%252Fb",
    "%", "100%", "%zz", "a+b", "a b", " ", " lead", "trail ", "a&b<c>\"d'", "a?b#c", "?", "#", "a;b=c,d", "a:b", "a\\b", "*", "$", "~", "@", "[x]",
    "{x}|^`", "\u00fc", unicodedata.normalize("NFD", "\u00fc"), "\u65e5\u672c\u8a9e", "\U0001f5ff", "\U0010ffff", "\ufffd", "e\u0301\u0323", "\u200b", "\u202e",
    "tab\there", "line\nfeed", "carriage\rreturn", "x" * 1024, "\u00fc" * 512, "\U0001f5ff" * 256, "/" * 1024, "null", "__proto__", "con", "nul.txt",
]
# XML 1.0 has no way to write these.
CONTROL = ["a\x01b", "\x1f", "esc\x1b[0m", "\ufffe", "a\uffffb", "\x7f", "\x00zero"]


def path(t, key):
    """As it is signed: everything is encoded but slashes."""
    return f"{t.path}/{urllib.parse.quote(key.encode(), safe='/')}"


def decoded(text):
    """A name of an answer with encoding-type=url, as SDKs decode it."""
    return urllib.parse.unquote_plus(text or "")


def names(document, tag):
    """Texts of all elements of this name, in order."""
    root = xml.etree.ElementTree.fromstring(document)
    return [element.text or "" for element in root.iter() if element.tag.split("}")[-1] == tag]


@case
def odd_keys_go_in_and_come_out(t):
    for number, key in enumerate(ODD + CONTROL):
        body = f"{number}".encode()
        put = t.raw.call("PUT", path(t, key), body=body)
        assert put.status == 200, f"PUT {key!r}: {put}"
        get = t.raw.call("GET", path(t, key))
        equal((get.status, get.body), (200, body), f"GET {key!r}")
        equal(t.raw.call("HEAD", path(t, key)).headers["content-length"], str(len(body)), f"HEAD {key!r}")
    equal(t.keys(), sorted(ODD + CONTROL, key=str.encode), "keys, each its own object, in byte order")
    for key in ODD + CONTROL:
        answered(t.raw.call("DELETE", path(t, key)), 204)
        equal(t.raw.call("HEAD", path(t, key)).status, 404, f"HEAD after DELETE of {key!r}")
    equal(t.keys(), [], "keys left")


@case
def odd_keys_through_an_sdk(t):
    # SDKs and the HTTP libraries below must not tidy paths up either.
    for key in ODD:
        t.put(key, key.encode())
    for key in ODD:
        equal(t.body(key), key.encode(), f"{key!r}")
        equal(t.head(key)["ContentLength"], len(key.encode()), f"{key!r}")
    answer = t.s3.delete_objects(Bucket=t.bucket, Delete={"Objects": [{"Key": key} for key in ODD]})
    # An XML parser reads a carriage return as a line feed.
    equal({d["Key"].replace("\r", "\n") for d in answer["Deleted"]}, {key.replace("\r", "\n") for key in ODD}, "deleted")


@case
def odd_keys_in_every_listing(t):
    keys = sorted(ODD, key=str.encode)
    t.s3.put_bucket_versioning(Bucket=t.bucket, VersioningConfiguration={"Status": "Enabled"})
    uploads = {}
    for key in keys:
        t.put(key)
        uploads[key] = t.s3.create_multipart_upload(Bucket=t.bucket, Key=key)["UploadId"]
    for query in ("", "list-type=2&", "versions=&", "uploads=&"):
        plain = t.raw.call("GET", t.path, f"{query}max-keys=1000".rstrip("&"))
        answered(plain, 200)
        equal(names(plain.body, "Key"), keys, f"{query} plain")
        encoded = t.raw.call("GET", t.path, f"{query}encoding-type=url")
        equal([decoded(k) for k in names(encoded.body, "Key")], keys, f"{query} url-encoded")
        equal(names(encoded.body, "EncodingType"), ["url"], f"{query} EncodingType")
    for key in keys:
        answer = t.raw.call("GET", path(t, key), f"uploadId={uploads[key]}")
        answered(answer, 200)
        equal(names(answer.body, "Key"), [key], "ListParts")
        t.s3.abort_multipart_upload(Bucket=t.bucket, Key=key, UploadId=uploads[key])
    for version in t.s3.list_object_versions(Bucket=t.bucket)["Versions"]:
        t.s3.delete_object(Bucket=t.bucket, Key=version["Key"], VersionId=version["VersionId"])


@case
def every_page_boundary_between_odd_keys_is_crossed(t):
    keys = sorted(ODD, key=str.encode)
    for key in keys:
        t.put(key)
    for operation, result in (("list_objects_v2", "Contents"), ("list_objects", "Contents"), ("list_object_versions", "Versions")):
        for size in (1, 3):
            pages = t.s3.get_paginator(operation).paginate(Bucket=t.bucket, PaginationConfig={"PageSize": size})
            equal([row["Key"] for page in pages for row in page.get(result, [])], keys, f"{operation} by {size}")
    for delimiter in ("/", "%", "\u00fc", "//"):
        rows = {key for key in keys if delimiter not in key}
        rolled = {key.split(delimiter)[0] + delimiter for key in keys if delimiter in key}
        for operation in ("list_objects_v2", "list_objects", "list_object_versions"):
            result = "Versions" if operation == "list_object_versions" else "Contents"
            seen, prefixes = [], []
            for page in t.s3.get_paginator(operation).paginate(Bucket=t.bucket, Delimiter=delimiter, PaginationConfig={"PageSize": 2}):
                seen += [row["Key"] for row in page.get(result, [])]
                prefixes += [row["Prefix"] for row in page.get("CommonPrefixes", [])]
            equal((sorted(seen), sorted(prefixes)), (sorted(rows), sorted(rolled)), f"{operation} {delimiter!r}")
    for prefix in ("/", "//", "a/", "%", "a%2F", "\u00fc", " ", "."):
        equal(t.keys(Prefix=prefix), [key for key in keys if key.startswith(prefix)], f"prefix {prefix!r}")


@case
def keys_without_a_form_in_xml_name_the_remedy(t):
    for key in CONTROL:
        answered(t.raw.call("PUT", path(t, key), body=b"x"), 200)
    uploads = {}
    for key in CONTROL:
        answer = t.raw.call("POST", path(t, key), "uploads=")
        answered(answer, 200)
        uploads[key] = names(answer.body, "UploadId")[0]
        answered(t.raw.call("PUT", path(t, key), f"partNumber=1&uploadId={uploads[key]}", body=b"part"), 200)
        equal(names(t.raw.call("GET", path(t, key), f"uploadId={uploads[key]}").body, "Size"), ["4"], f"ListParts {key!r}")
    for query in ("", "list-type=2", "versions=", "uploads="):
        plain = t.raw.call("GET", t.path, query)
        answered(plain, 400, "InvalidArgument")
        assert b"encoding-type=url" in plain.body, plain.body
        encoded = t.raw.call("GET", t.path, f"{query}&encoding-type=url".lstrip("&"))
        equal({decoded(k) for k in names(encoded.body, "Key")}, set(CONTROL), query)
    for key, at in uploads.items():
        tag = hashlib.md5(b"part").hexdigest()
        done = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
        answered(t.raw.call("POST", path(t, key), f"uploadId={at}", body=done.encode()), 200)
        equal(t.raw.call("GET", path(t, key)).body, b"part", f"GET {key!r}")
        answered(t.raw.call("DELETE", path(t, key)), 204)
    answered(t.raw.call("GET", "/", "prefix=%01"), 400, "InvalidArgument")


@case
def names_at_and_over_their_limits(t):
    for key in ("k" * 1024, "\u00fc" * 512):
        answered(t.raw.call("PUT", path(t, key), body=b"x"), 200)
    for key in ("k" * 1025, "\u00fc" * 512 + "k"):
        for method in ("PUT", "GET", "DELETE"):
            answered(t.raw.call(method, path(t, key), body=b""), 400, "KeyTooLongError")
        equal(t.raw.call("HEAD", path(t, key)).status, 400, "HEAD")
        answered(t.raw.call("POST", path(t, key), "uploads="), 400, "KeyTooLongError")
    equal(len(t.keys()), 2, "keys")
    for name, status in (("a" * 63, 200), ("a" * 64, 400), ("abc", 200), ("ab", 400)):
        answer = t.raw.call("PUT", f"/{name}")
        equal(answer.status, status, f"a bucket name of {len(name)}")
        if status == 200:
            answered(t.raw.call("DELETE", f"/{name}"), 204)


@case
def buckets_are_listed_by_page_and_prefix(t):
    made = sorted(f"{t.bucket[:40]}-{letter}{number}" for letter in "ab" for number in range(7))
    for name in made:
        t.s3.create_bucket(Bucket=name)
    try:
        prefix = t.bucket[:40] + "-"
        pages = list(t.s3.get_paginator("list_buckets").paginate(Prefix=prefix, PaginationConfig={"PageSize": 3}))
        wanted = sorted(made + ([t.bucket] if t.bucket.startswith(prefix) else []))
        equal([b["Name"] for page in pages for b in page["Buckets"]], wanted, "buckets by page")
        assert all(len(page["Buckets"]) <= 3 and page["Prefix"] == prefix for page in pages), pages
        equal({b["BucketRegion"] for page in pages for b in page["Buckets"]}, {"us-east-1"}, "region")
        assert "ContinuationToken" not in pages[-1], "a token behind the last page"
        equal([b["Name"] for b in t.s3.list_buckets(Prefix=prefix + "b")["Buckets"]], [n for n in made if f"{prefix}b" in n], "prefix")
        every = t.s3.list_buckets()
        assert set(made) < {b["Name"] for b in every["Buckets"]} and "BucketRegion" not in every["Buckets"][0], "all buckets"
        equal(sorted(b["Name"] for b in every["Buckets"]), [b["Name"] for b in every["Buckets"]], "order")
        equal(t.s3.list_buckets(BucketRegion="eu-central-1")["Buckets"], [], "another region")
        equal(len(t.s3.list_buckets(BucketRegion="us-east-1", Prefix=prefix + "a")["Buckets"]), 7, "this region")
        for size in ("0", "-1", "10001", "x"):
            answered(t.raw.call("GET", "/", f"max-buckets={size}"), 400, "InvalidArgument")
        refused("InvalidArgument", t.s3.list_buckets, ContinuationToken="no such token", status=400)
        token = pages[0]["ContinuationToken"]
        t.s3.delete_bucket(Bucket=pages[0]["Buckets"][-1]["Name"])
        equal(t.s3.list_buckets(Prefix=prefix, ContinuationToken=token)["Buckets"][0]["Name"], wanted[3], "after a deleted one")
    finally:
        for name in made:
            if t.raw.call("HEAD", f"/{name}").status == 200:
                t.s3.delete_bucket(Bucket=name)


@case
def paths_on_the_wire_are_taken_as_they_are(t):
    t.raw.call("PUT", f"{t.path}/a/b", body=b"plain")
    # An encoded slash is a slash of the key; a doubled one is another key; dots are no steps.
    signed = t.raw.sign("GET", f"{t.path}/a/b", "", {}, EMPTY_SHA256)
    equal(t.raw.plain("GET", f"{t.path}/a%2Fb", signed).body, b"plain", "%2F")
    for other in ("/a//b", "//a/b", "/a/./b", "/x/../a/b", "/a%252Fb", "/A/b", "/a/b/"):
        answered(t.raw.call("GET", t.path + other), 404, "NoSuchKey")
    head = t.raw.sign("GET", f"{t.path}/x/../a/b", "", {}, EMPTY_SHA256)
    answer = t.raw.bytes(t.raw.head_bytes("GET", f"{t.path}/x/../a/b", {**head, "connection": "close"}))
    assert answer.startswith(b"HTTP/1.1 404"), answer[:80]
