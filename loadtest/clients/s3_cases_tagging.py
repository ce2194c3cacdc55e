"""Cases of s3_suite.py: tags of objects and buckets."""

import urllib.parse

from s3_suite import answered, case, equal, refused
from s3_cases_versioning import empty, keep


def tag_set(**tags):
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def tags(t, key="k", **more):
    answer = t.s3.get_object_tagging(Bucket=t.bucket, Key=key, **more)
    return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}


def put_tags(t, key="k", tagging=None, **more):
    return t.s3.put_object_tagging(Bucket=t.bucket, Key=key, Tagging=tagging, **more)


def document(*pairs):
    text = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in pairs)
    return f"<Tagging><TagSet>{text}</TagSet></Tagging>".encode()


@case
def tags_come_with_the_object_and_can_be_changed(t):
    t.put("k", Tagging="site=north&note=a+b%2Bc&%C3%BC=%E8%AA%9E")
    equal(tags(t), {"site": "north", "note": "a b+c", "ü": "語"})
    equal((t.get("k")["TagCount"], t.head("k").get("TagCount")), (3, 3))
    before = t.head("k")
    put_tags(t, tagging=tag_set(site="south"))
    equal(tags(t), {"site": "south"})
    after = t.head("k")
    equal((after["ETag"], after["LastModified"]), (before["ETag"], before["LastModified"]))
    equal(after["ResponseMetadata"]["HTTPHeaders"]["x-stele-log"], before["ResponseMetadata"]["HTTPHeaders"]["x-stele-log"])
    answer = t.s3.delete_object_tagging(Bucket=t.bucket, Key="k")
    equal(answer["ResponseMetadata"]["HTTPStatusCode"], 204)
    equal(tags(t), {})
    assert "TagCount" not in t.head("k") and "TagCount" not in t.get("k")
    put_tags(t, tagging=tag_set(site="east"))
    t.put("k", b"replaced")
    equal(tags(t), {}, "an overwrite brings its own tags")
    refused("NoSuchKey", tags, t, "absent", status=404)
    refused("NoSuchKey", put_tags, t, "absent", tag_set(a="b"), status=404)


@case
def tags_belong_to_a_version(t):
    keep(t)
    one, two = t.put("k", b"1", Tagging="n=1")["VersionId"], t.put("k", b"2", Tagging="n=2")["VersionId"]
    equal((tags(t), tags(t, VersionId=one)), ({"n": "2"}, {"n": "1"}))
    equal(put_tags(t, tagging=tag_set(n="one"), VersionId=one)["VersionId"], one)
    equal(t.s3.get_object_tagging(Bucket=t.bucket, Key="k", VersionId=one)["VersionId"], one)
    equal((tags(t), tags(t, VersionId=one)), ({"n": "2"}, {"n": "one"}))
    equal(t.s3.delete_object_tagging(Bucket=t.bucket, Key="k")["VersionId"], two)
    equal((tags(t), tags(t, VersionId=one)), ({}, {"n": "one"}))
    equal([t.body("k"), t.body("k", VersionId=one)], [b"2", b"1"])
    marker = t.s3.delete_object(Bucket=t.bucket, Key="k")["VersionId"]
    refused("NoSuchKey", put_tags, t, "k", tag_set(a="b"), status=404)
    refused("NoSuchKey", tags, t, "k", status=404)
    refused("MethodNotAllowed", put_tags, t, "k", tag_set(a="b"), VersionId=marker, status=405)
    refused("MethodNotAllowed", tags, t, "k", VersionId=marker, status=405)
    refused("NoSuchVersion", put_tags, t, "k", tag_set(a="b"), VersionId="0" * 32, status=404)
    refused("InvalidArgument", put_tags, t, "k", tag_set(a="b"), VersionId="no id", status=400)
    empty(t)


@case
def a_copy_keeps_or_replaces_tags_as_it_says(t):
    t.put("k", Tagging="n=1")
    source = {"Bucket": t.bucket, "Key": "k"}
    copy = lambda key, **more: t.s3.copy_object(Bucket=t.bucket, Key=key, CopySource=source, **more)
    copy("kept")
    copy("kept too", TaggingDirective="COPY")
    copy("replaced", TaggingDirective="REPLACE", Tagging="m=2")
    copy("without", TaggingDirective="REPLACE")
    got = [tags(t, key) for key in ("kept", "kept too", "replaced", "without")]
    equal(got, [{"n": "1"}, {"n": "1"}, {"m": "2"}, {}])
    refused("InvalidArgument", copy, "ignored", Tagging="m=2", status=400)
    refused("InvalidTag", copy, "wrong", TaggingDirective="REPLACE", Tagging="aws:m=2", status=400)
    assert "ignored" not in t.keys() and "wrong" not in t.keys()


@case
def tags_of_an_upload_become_those_of_its_object(t):
    t.upload("k", [b"part"], Tagging="a=1&b=2")
    equal(tags(t), {"a": "1", "b": "2"})
    refused("InvalidTag", t.s3.create_multipart_upload, Bucket=t.bucket, Key="no", Tagging="a=1&a=2", status=400)


@case
def tags_beyond_the_limits_are_refused(t):
    ten = {f"key{n}": "x" for n in range(10)}
    t.put("k", Tagging=urllib.parse.urlencode(ten))
    put_tags(t, tagging=tag_set(**ten))
    put_tags(t, tagging=tag_set(**{"ü" * 128: "語" * 256}))
    kept = tags(t)
    for wrong in (
        tag_set(**ten, more="x"),
        tag_set(**{"k" * 129: "x"}),
        tag_set(k="v" * 257),
        tag_set(**{"aws:k": "x"}),
        tag_set(**{"a<b": "x"}),
        {"TagSet": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]},
    ):
        refused("InvalidTag", put_tags, t, "k", wrong, status=400)
    for header in (urllib.parse.urlencode({**ten, "more": "x"}), "a=1&a=2", "aws:a=1", "=x", "a=" + "v" * 257, "a&"):
        refused("InvalidTag", t.put, "no", Tagging=header, status=400)
    for header in ("a=%4", "a=%FF"):
        answered(t.raw.call("PUT", f"{t.path}/no", headers={"x-amz-tagging": header}, body=b"x"), 400, "InvalidArgument")
    answered(t.raw.call("PUT", f"{t.path}/no", headers={"content-length": "1"}, late={"x-amz-tagging": "a=b"}, body=b"x"), 403, "AccessDenied")
    answered(t.raw.call("PUT", f"{t.path}/k", "tagging=", body=document(("", "x"))), 400, "InvalidTag")
    equal((tags(t), t.keys()), (kept, ["k"]))


@case
def documents_of_tags_are_read_strictly(t):
    t.put("k", Tagging="a=1")
    put = lambda body, **headers: t.raw.call("PUT", f"{t.path}/k", "tagging=", headers=headers, body=body)
    for body in (
        b"<Tagging/>",
        b"<Tagging><TagSets/></Tagging>",
        b"<Tagging><TagSet><Tag><Key>b</Key></Tag></TagSet></Tagging>",
        b"<Tagging><TagSet><Tag><Key>b</Key><Value>c</Value><Extra/></Tag></TagSet></Tagging>",
        b"<Tagging><TagSet/><Unknown/></Tagging>",
        b"<Tagging><TagSet>",
        b"<Retention/>",
    ):
        answered(put(body), 400, "MalformedXML")
    answered(put(b""), 400, "MissingRequestBodyError")
    answered(put(document(("", "c"))), 400, "InvalidTag")
    answered(put(document(("b", "c")), **{"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}), 400, "BadDigest")
    answered(put(document(("b", "c")), **{"x-amz-checksum-crc32": "AAAAAA=="}), 400, "BadDigest")
    equal(tags(t), {"a": "1"})
    answered(put(document(("b", "c &amp; d".replace(" &amp; ", "-")))), 200)
    equal(tags(t), {"b": "c-d"})
    answered(put(b"<Tagging><TagSet/></Tagging>"), 200)
    equal(tags(t), {})
    answered(t.raw.call("PUT", f"{t.path}/k", "versionId=null", body=b"x"), 501, "NotImplemented")


@case
def buckets_have_tags_of_their_own(t):
    get = lambda: t.s3.get_bucket_tagging(Bucket=t.bucket)["TagSet"]
    put = lambda tagging: t.s3.put_bucket_tagging(Bucket=t.bucket, Tagging=tagging)
    refused("NoSuchTagSet", get, status=404)
    put(tag_set(team="ct", cost="7"))
    equal(sorted(get(), key=lambda tag: tag["Key"]), tag_set(cost="7", team="ct")["TagSet"])
    put(tag_set(**{f"key{n:02}": "x" for n in range(50)}))
    equal(len(get()), 50)
    refused("InvalidTag", put, tag_set(**{f"key{n}": "x" for n in range(51)}), status=400)
    refused("InvalidTag", put, {"TagSet": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, status=400)
    refused("InvalidTag", put, tag_set(**{"aws:cost": "1"}), status=400)
    equal(len(get()), 50)
    t.put("k")
    equal(tags(t), {}, "objects don't inherit them")
    t.s3.delete_bucket_tagging(Bucket=t.bucket)
    refused("NoSuchTagSet", get, status=404)
    refused("NoSuchBucket", t.s3.put_bucket_tagging, Bucket="missing-" + t.bucket[:40], Tagging=tag_set(a="b"), status=404)
