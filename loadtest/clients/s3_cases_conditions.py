"""Cases of s3_suite.py: conditions on reads and writes beyond one ETag."""

import datetime
import email.utils

from s3_suite import answered, case, equal, refused

HOUR = datetime.timedelta(hours=1)


def http_date(moment):
    return email.utils.format_datetime(moment.astimezone(datetime.timezone.utc), usegmt=True)


def stored(t, key, body=b"x"):
    """(ETag without quotes, date of the last change)"""
    t.put(key, body)
    head = t.head(key)
    return head["ETag"].strip('"'), head["LastModified"]


@case
def lists_of_etags_are_understood(t):
    etag, _ = stored(t, "k")
    ours, others = f'"other", W/"{etag}" ,"more"', '"one", "two"'
    for method in ("GET", "HEAD"):
        call = lambda **conditions: t.raw.call(method, f"{t.path}/k", headers={n.replace("_", "-"): v for n, v in conditions.items()})
        answered(call(if_match=ours), 200)
        answered(call(if_match=others), 412)
        answered(call(if_none_match=ours), 304)
        answered(call(if_none_match=others), 200)
    put = lambda tags: t.raw.call("PUT", f"{t.path}/k", headers={"if-match": tags}, body=b"y")
    answered(put(others), 412, "PreconditionFailed")
    equal(t.body("k"), b"x", "a write whose condition does not hold")
    answered(put(ours), 200)
    answered(put(ours), 412, "PreconditionFailed")


@case
def dates_on_reads_and_copy_sources(t):
    etag, changed = stored(t, "k")
    before, after = changed - HOUR, changed + HOUR
    for read in (t.get, t.head):
        equal(read("k", IfModifiedSince=before)["ETag"], f'"{etag}"')
        refused(("304", "Not Modified"), read, "k", IfModifiedSince=changed, status=304)
        equal(read("k", IfUnmodifiedSince=changed)["ETag"], f'"{etag}"')
        refused(("412", "PreconditionFailed"), read, "k", IfUnmodifiedSince=before, status=412)
        # An ETag decides where both are sent.
        equal(read("k", IfMatch=etag, IfUnmodifiedSince=before)["ETag"], f'"{etag}"')
        equal(read("k", IfNoneMatch="other", IfModifiedSince=after)["ETag"], f'"{etag}"')
        refused(("304", "Not Modified"), read, "k", IfNoneMatch=etag, IfModifiedSince=before, status=304)
    copy = lambda **conditions: t.s3.copy_object(Bucket=t.bucket, Key="c", CopySource=f"{t.bucket}/k", **conditions)
    copy(CopySourceIfModifiedSince=before)
    refused("PreconditionFailed", copy, CopySourceIfModifiedSince=changed, status=412)
    copy(CopySourceIfUnmodifiedSince=changed)
    refused("PreconditionFailed", copy, CopySourceIfUnmodifiedSince=before, status=412)
    copy(CopySourceIfMatch=etag, CopySourceIfUnmodifiedSince=before)
    refused("PreconditionFailed", copy, CopySourceIfNoneMatch=etag, CopySourceIfModifiedSince=before, status=412)
    refused("PreconditionFailed", copy, CopySourceIfMatch="other", status=412)
    copy(CopySourceIfNoneMatch="other")


@case
def dates_on_writes(t):
    _, changed = stored(t, "k")
    before, now = {"if-unmodified-since": http_date(changed - HOUR)}, {"if-unmodified-since": http_date(changed + HOUR)}
    put = lambda key, headers: t.raw.call("PUT", f"{t.path}/{key}", headers=headers, body=b"y")
    answered(put("k", before), 412, "PreconditionFailed")
    answered(put("new", before), 200)
    answered(put("k", {"if-unmodified-since": "yesterday"}), 400, "InvalidArgument")
    equal(t.body("k"), b"x", "refused writes")
    copied = lambda headers: t.raw.call("PUT", f"{t.path}/k", headers={"x-amz-copy-source": f"{t.bucket}/new", **headers})
    answered(copied(before), 412, "PreconditionFailed")
    upload = t.s3.create_multipart_upload(Bucket=t.bucket, Key="k")["UploadId"]
    part = t.s3.upload_part(Bucket=t.bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"p")
    document = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part['ETag']}</ETag></Part></CompleteMultipartUpload>"
    complete = lambda headers: t.raw.call("POST", f"{t.path}/k", f"uploadId={upload}", headers=headers, body=document.encode())
    answered(complete(before), 412, "PreconditionFailed")
    equal(t.body("k"), b"x", "refused writes")
    answered(complete(now), 200)
    answered(copied(now), 200)
    answered(t.raw.call("DELETE", f"{t.path}/k", headers=before), 412, "PreconditionFailed")
    answered(t.raw.call("DELETE", f"{t.path}/k", headers=now), 204)


@case
def deletes_can_ask_what_they_delete(t):
    etag, changed = stored(t, "k", b"four")
    delete = lambda **conditions: t.s3.delete_object(Bucket=t.bucket, Key="k", **conditions)
    refused("PreconditionFailed", delete, IfMatchSize=5, status=412)
    refused("PreconditionFailed", delete, IfMatchLastModifiedTime=changed - HOUR, status=412)
    refused("PreconditionFailed", delete, IfMatch=etag, IfMatchSize=5, status=412)
    refused("NoSuchKey", t.s3.delete_object, Bucket=t.bucket, Key="none", IfMatch="*", status=404)
    objects = [
        {"Key": "k", "ETag": "other"},
        {"Key": "k", "Size": 5},
        {"Key": "k", "LastModifiedTime": changed - HOUR},
        {"Key": "none", "ETag": "*"},
        {"Key": "none"},
    ]
    answer = t.s3.delete_objects(Bucket=t.bucket, Delete={"Objects": objects})
    equal([row["Code"] for row in answer["Errors"]], ["PreconditionFailed"] * 3 + ["NoSuchKey"])
    equal([row["Key"] for row in answer["Deleted"]], ["none"])
    equal(t.body("k"), b"four", "what no condition met")
    delete(IfMatch=etag, IfMatchSize=4, IfMatchLastModifiedTime=changed)
    stored(t, "k", b"four")
    answer = t.s3.delete_objects(Bucket=t.bucket, Delete={"Objects": [{"Key": "k", "ETag": "*", "Size": 4}]})
    equal([row["Key"] for row in answer["Deleted"]], ["k"])
