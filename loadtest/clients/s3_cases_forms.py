"""Cases of the S3 suite about browser uploads: forms with a signed policy. Imported by s3_suite.py."""

import base64
import datetime
import hashlib
import hmac
import json
import re

from s3_raw import b64, checksum
from s3_suite import answered, case, equal

BOUNDARY = "----stele-form-0123456789"


def body_of(fields, data, filename="photo.jpg", order="file last"):
    """A form as browsers write it."""
    parts = []
    for name, value in fields.items():
        parts.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\nContent-Type: image/jpeg\r\n\r\n'
    parts.insert(len(parts) if order == "file last" else 0, file.encode() + data + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def post(t, fields, data=b"bytes of a photo", path=None, headers=None, **form):
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **(headers or {})}
    return t.raw.plain("POST", path or t.path, headers, body_of(fields, data, **form))


def sign(t, conditions, fields=None, age=0, expires=600, secret=None):
    """Signs a policy by hand: `age` seconds ago, valid for `expires` from now."""
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp = (now - datetime.timedelta(seconds=age)).strftime("%Y%m%dT%H%M%SZ")
    signing = {
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{t.raw.access}/{stamp[:8]}/{t.raw.region}/s3/aws4_request",
        "x-amz-date": stamp,
    }
    until = (now + datetime.timedelta(seconds=expires)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    policy = {"expiration": until, "conditions": [*conditions, *({k: v} for k, v in signing.items())]}
    policy = b64(json.dumps(policy).encode())
    key = t.raw.scope_key(stamp[:8])
    signature = hmac.new(secret or key, policy.encode(), hashlib.sha256).hexdigest()
    return {**(fields or {}), **signing, "policy": policy, "x-amz-signature": signature}


def sign_eq(t, fields, *more, **settings):
    """A policy that demands exactly these fields."""
    return sign(t, [{"bucket": t.bucket}, *({k: v} for k, v in fields.items()), *more], fields, **settings)


@case
def a_form_of_boto3_stores_its_file(t):
    made = t.s3.generate_presigned_post(
        t.bucket,
        "in/${filename}",
        Fields={"Content-Type": "image/jpeg", "x-amz-meta-by": "me"},
        Conditions=[{"Content-Type": "image/jpeg"}, {"x-amz-meta-by": "me"}, ["content-length-range", 1, 100]],
    )
    data = b"\x00\r\n--not-the-boundary\r\n\xff"
    answer = answered(post(t, made["fields"], data), 204)
    equal(answer.headers["etag"], f'"{hashlib.md5(data).hexdigest()}"', "ETag")
    equal(answer.headers["location"], f"{t.path}/in/photo.jpg", "Location")
    equal(len(answer.headers["x-stele-object-root"]), 64, "root")
    head = t.head("in/photo.jpg")
    equal((head["ContentType"], head["Metadata"]), ("image/jpeg", {"by": "me"}))
    equal(t.body("in/photo.jpg"), data, "body")


@case
def a_form_says_what_its_answer_is(t):
    for status in ("200", "201", "204", "302", "x"):
        fields = sign_eq(t, {"key": f"k{status}", "success_action_status": status})
        if status == "x":
            equal(post(t, fields).status // 100, 4)
            continue
        answer = answered(post(t, fields), int(status) if status in ("200", "201") else 204)
        etag = answer.headers["etag"]
        if status == "201":
            text = answer.body.decode().replace("&quot;", '"')
            for part in (f"<Bucket>{t.bucket}</Bucket>", "<Key>k201</Key>", f"<ETag>{etag}</ETag>", "<Location>"):
                assert part in text or part.replace('"', "") in text, f"{part} in {text}"
    fields = sign_eq(t, {"key": "a b", "success_action_redirect": "https://a.example/done?x=1"})
    answer = answered(post(t, fields), 303)
    location = answer.headers["location"]
    assert re.match(rf"https://a\.example/done\?x=1&bucket={t.bucket}&key=a(\+|%20)b&etag=", location), location
    for bad in ("javascript:alert(1)", "/done", "https://"):
        answered(post(t, sign_eq(t, {"key": "no", "success_action_redirect": bad})), 400, "InvalidArgument")
    equal(t.keys(), ["a b", "k200", "k201", "k204", "k302"], "keys")
    t.s3.put_bucket_versioning(Bucket=t.bucket, VersioningConfiguration={"Status": "Enabled"})
    version = answered(post(t, sign_eq(t, {"key": "v"})), 204).headers["x-amz-version-id"]
    equal(t.head("v")["VersionId"], version, "version")
    for kept in t.s3.list_object_versions(Bucket=t.bucket)["Versions"]:
        t.s3.delete_object(Bucket=t.bucket, Key=kept["Key"], VersionId=kept["VersionId"])


@case
def a_form_carries_all_that_a_put_does(t):
    data = b"telemetry"
    fields = {
        "key": "k",
        "Cache-Control": "max-age=5",
        "Content-Disposition": "attachment",
        "Content-Encoding": "br",
        "Content-Language": "de",
        "x-amz-checksum-sha256": checksum("sha256", data),
        "x-amz-meta-Name": "ü",
        "x-amz-tagging": "a=b&c=d",
        "acl": "private",
        "name": "what a page adds",
        "x-ignore-this": "and that",
    }
    answered(post(t, sign_eq(t, fields), data), 204)
    head = t.head("k", ChecksumMode="ENABLED")
    shown = (head["CacheControl"], head["ContentDisposition"], head["ContentEncoding"], head["ContentLanguage"])
    equal(shown, ("max-age=5", "attachment", "br", "de"))
    equal(head["ChecksumSHA256"], checksum("sha256", data))
    tags = lambda key: {tag["Key"]: tag["Value"] for tag in t.s3.get_object_tagging(Bucket=t.bucket, Key=key)["TagSet"]}
    equal(tags("k"), {"a": "b", "c": "d"})
    document = "<Tagging><TagSet><Tag><Key>x y</Key><Value>1+2</Value></Tag></TagSet></Tagging>"
    answered(post(t, sign_eq(t, {"key": "t", "tagging": document})), 204)
    equal(tags("t"), {"x y": "1+2"})
    wrong = {"key": "no", "x-amz-checksum-sha256": checksum("sha256", b"other")}
    answered(post(t, sign_eq(t, wrong), data), 400, "BadDigest")
    answered(post(t, sign_eq(t, {"key": "empty"}), b""), 204)
    equal(t.body("empty"), b"")
    large = bytes(range(256)) * 40_000
    answered(post(t, sign_eq(t, {"key": "large"}), large), 204)
    equal(t.body("large"), large, "a large file")
    equal(t.keys(), ["empty", "k", "large", "t"], "keys")


@case
def a_policy_decides_what_a_form_may_do(t):
    key = {"key": "user/7/k"}
    prefix = [{"bucket": t.bucket}, ["starts-with", "$key", "user/7/"]]
    answered(post(t, sign(t, prefix, key)), 204)
    sized = [*prefix, ["content-length-range", 5, 10]]
    kind = [*prefix, ["starts-with", "$Content-Type", "image/"]]
    for name, fields, data, status, code in [
        ("another prefix", sign(t, prefix, {"key": "user/8/k"}), b"x", 403, "AccessDenied"),
        ("another key", sign(t, [{"bucket": t.bucket}, {"key": "a"}], {"key": "b"}), b"x", 403, "AccessDenied"),
        ("another bucket", sign(t, [{"bucket": "another"}, {"key": "a"}], {"key": "a"}), b"x", 403, "AccessDenied"),
        ("too large", sign(t, sized, key), b"x" * 11, 400, "EntityTooLarge"),
        ("too small", sign(t, sized, key), b"x" * 4, 400, "EntityTooSmall"),
        ("another type", sign(t, kind, {**key, "Content-Type": "text/html"}), b"x", 403, "AccessDenied"),
        ("a field too many", {**sign(t, prefix, key), "x-amz-meta-a": "b"}, b"x", 403, "AccessDenied"),
        ("expired", sign(t, prefix, key, expires=-1), b"x", 403, "AccessDenied"),
        ("no expiration", sign(t, [*prefix, ["eq", "$x"]], key), b"x", 400, "InvalidPolicyDocument"),
    ]:
        answer = post(t, fields, data)
        equal((answer.status, answer.code), (status, code), name)
    equal(t.keys(), ["user/7/k"], "keys")
    equal(t.body("user/7/k"), b"bytes of a photo")
    for length in (5, 10):
        answered(post(t, sign(t, sized, {"key": f"user/7/{length}"}), b"x" * length), 204)


@case
def a_form_needs_a_signature_that_holds(t):
    fields = sign_eq(t, {"key": "k"})
    policy = json.loads(base64.b64decode(fields["policy"]))
    policy["conditions"].append(["content-length-range", 0, 10**9])
    without = {name: value for name, value in fields.items() if name != "x-amz-signature"}
    for name, fields, code in [
        ("anonymous", {"key": "k"}, "AccessDenied"),
        ("a policy that nobody signed", without, "AccessDenied"),
        ("another policy", {**fields, "policy": b64(json.dumps(policy).encode())}, "SignatureDoesNotMatch"),
        ("another secret", sign_eq(t, {"key": "k"}, secret=b"0" * 32), "SignatureDoesNotMatch"),
        ("eight days old", sign_eq(t, {"key": "k"}, age=8 * 24 * 3600), "RequestTimeTooSkewed"),
        ("signature version 2", {"key": "k", "AWSAccessKeyId": t.raw.access, "signature": "eA==", "policy": fields["policy"]}, None),
    ]:
        answer = post(t, fields)
        assert answer.status in (400, 403) and code in (None, answer.code), f"{name}: {answer}"
    equal(t.keys(), [], "keys")
    # The policy, not the age, decides until when a page may be filled in.
    for age in (20 * 60, 6 * 24 * 3600):
        answered(post(t, sign_eq(t, {"key": f"age-{age}"}, age=age)), 204)


@case
def forms_that_are_none_are_refused(t):
    good = sign_eq(t, {"key": "k"})
    answered(post(t, good, path=f"{t.path}/k"), 405, "MethodNotAllowed")
    answered(post(t, good, path=f"{t.path}?delete"), 400, "InvalidRequest")
    answered(post(t, good, headers={"authorization": "AWS4-HMAC-SHA256 x"}), 400, "InvalidRequest")
    answered(post(t, good, order="file first"), 403, "AccessDenied")
    answered(post(t, sign_eq(t, {"key": ""})), 400)
    answered(post(t, {name: value for name, value in good.items() if name != "key"}), 403)
    answered(post(t, {**good, **{f"x-ignore-{n}": "v" for n in range(200)}}), 400, "MalformedPOSTRequest")
    answered(post(t, {**good, "x-ignore-long": "v" * 70_000}), 400, "MalformedPOSTRequest")
    padding = {f"x-ignore-{n}{'n' * 3000}": "" for n in range(50)}
    answered(post(t, {**good, **padding}), 400, "MaxPostPreDataLengthExceeded")
    answered(post(t, sign_eq(t, {"key": "k" * 1025})), 400, "KeyTooLongError")
    for fields, status, code in [
        ({"acl": "public-read"}, 400, "AccessControlListNotSupported"),
        ({"x-amz-acl": "public-read"}, 400, "AccessControlListNotSupported"),
        ({"tagging": "<Tagging>"}, 400, "MalformedXML"),
        ({"x-amz-security-token": "t"}, 400, "InvalidToken"),
        ({"x-amz-anything-new": "t"}, 501, "NotImplemented"),
        ({"x-amz-storage-class": "GLACIER"}, 400, "InvalidStorageClass"),
        ({"x-amz-expected-bucket-owner": "another"}, 403, "AccessDenied"),
        ({"x-amz-object-lock-legal-hold": "ON"}, 400, None),
    ]:
        answer = post(t, sign_eq(t, {"key": "k", **fields}))
        assert answer.status == status and code in (None, answer.code), f"{fields}: {answer}"
    # Fields that no condition has to cover are not lost either.
    answered(post(t, {**good, "x-amz-server-side-encryption": "AES256"}), 501, "NotImplemented")
    body = body_of(good, b"data")
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    answered(t.raw.plain("POST", t.path, {"content-type": "multipart/form-data"}, body), 400)
    head = t.raw.head_bytes("POST", t.path, {"host": t.raw.netloc, "connection": "close", "transfer-encoding": "chunked", **kind})
    chunked = t.raw.bytes(head + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
    assert b" 411 " in chunked.split(b"\r\n")[0], chunked[:200]
    for cut in (1, len(body) // 2, len(body) - 3):
        head = t.raw.head_bytes("POST", t.path, {"host": t.raw.netloc, "content-length": str(len(body)), **kind})
        answer = t.raw.bytes(head + body[:cut], shut=True)
        assert b" 200 " not in answer and b" 204 " not in answer, answer[:200]
        answer = t.raw.plain("POST", t.path, kind, body[:cut])
        assert answer.status in (400, 403), f"cut at {cut}: {answer}"
    equal(t.keys(), [], "keys")
