"""Cases of s3_suite.py: object lock. What is kept in compliance mode is kept for seconds only, so that
each case can remove what it made."""

import contextlib
import datetime
import time

from s3_suite import answered, case, equal, refused
from s3_cases_tagging import put_tags, tag_set
from s3_cases_versioning import keep, listed

SECOND = datetime.timedelta(seconds=1)
DAY = datetime.timedelta(days=1)


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def until(ahead):
    """A date in whole seconds, as boto3 writes it into headers; at least that far ahead."""
    date = now() + ahead
    return date.replace(microsecond=0) + (SECOND if date.microsecond else 0 * SECOND)


def enable(t, **default):
    keep(t)
    configure(t, **default)


def configure(t, **default):
    lock = {"ObjectLockEnabled": "Enabled"}
    if default:
        lock["Rule"] = {"DefaultRetention": default}
    t.s3.put_object_lock_configuration(Bucket=t.bucket, ObjectLockConfiguration=lock)


def lock_headers(mode="GOVERNANCE", ahead=DAY, **more):
    return {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": until(ahead), **more}


def put(t, key="k", body=b"x", **more):
    return t.put(key, body, **more)["VersionId"]


def retention(t, version, key="k"):
    found = t.s3.get_object_retention(Bucket=t.bucket, Key=key, VersionId=version)["Retention"]
    return found["Mode"], found["RetainUntilDate"]


def retain(t, version, mode=None, date=None, bypass=None, key="k"):
    wanted = {"Mode": mode, "RetainUntilDate": date} if mode else {}
    more = {} if bypass is None else {"BypassGovernanceRetention": bypass}
    return t.s3.put_object_retention(Bucket=t.bucket, Key=key, VersionId=version, Retention=wanted, **more)


def hold(t, version, status, key="k"):
    t.s3.put_object_legal_hold(Bucket=t.bucket, Key=key, VersionId=version, LegalHold={"Status": status})


def delete(t, version, key="k", bypass=None):
    more = {} if bypass is None else {"BypassGovernanceRetention": bypass}
    return t.s3.delete_object(Bucket=t.bucket, Key=key, VersionId=version, **more)


def kept(t, version, key="k", bypass=None):
    """The version can't be removed; returns what the refusal says."""
    error = refused("AccessDenied", delete, t, version, key, bypass, status=403)
    equal(t.s3.head_object(Bucket=t.bucket, Key=key, VersionId=version)["VersionId"], version)
    return error["Error"]["Message"]


def empty(t):
    """Removes every version, by waiting for those in compliance mode."""
    for key, version, _, marker in listed(t):
        if not marker:
            with contextlib.suppress(t.s3.exceptions.ClientError):
                hold(t, version, "OFF", key)
            head = t.s3.head_object(Bucket=t.bucket, Key=key, VersionId=version)
            if head.get("ObjectLockMode") == "COMPLIANCE":
                left = (head["ObjectLockRetainUntilDate"] - now()).total_seconds()
                assert left < 10, f"{key} is kept for {left} s"
                time.sleep(max(0, left) + 0.01)
        delete(t, version, key, True)


def raw(t, query, body, path=None, **headers):
    return t.raw.call("PUT", path or f"{t.path}/k", query, headers=headers, body=body)


@case
def a_lock_on_the_bucket_comes_with_it_or_later_and_stays(t):
    get = lambda bucket=t.bucket: t.s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    refused("ObjectLockConfigurationNotFoundError", get, status=404)
    refused("InvalidBucketState", configure, t, status=409)
    keep(t, "Suspended")
    refused("InvalidBucketState", configure, t, status=409)
    enable(t)
    equal(get(), {"ObjectLockEnabled": "Enabled"})
    suspend = {"Bucket": t.bucket, "VersioningConfiguration": {"Status": "Suspended"}}
    refused("InvalidBucketState", t.s3.put_bucket_versioning, **suspend, status=409)
    keep(t)
    other = f"{t.bucket}-l"
    t.s3.create_bucket(Bucket=other, ObjectLockEnabledForBucket=True)
    equal(get(other), {"ObjectLockEnabled": "Enabled"})
    equal(t.s3.get_bucket_versioning(Bucket=other)["Status"], "Enabled")
    # Asked for again, with and without: it is what it is.
    t.s3.create_bucket(Bucket=other, ObjectLockEnabledForBucket=True)
    t.s3.create_bucket(Bucket=other)
    equal(get(other), {"ObjectLockEnabled": "Enabled"})
    t.s3.delete_bucket(Bucket=other)
    t.s3.create_bucket(Bucket=other)
    refused("BucketAlreadyOwnedByYou", t.s3.create_bucket, Bucket=other, ObjectLockEnabledForBucket=True, status=409)
    refused("ObjectLockConfigurationNotFoundError", get, other, status=404)
    t.s3.delete_bucket(Bucket=other)
    refused("NotImplemented", t.s3.put_object_lock_configuration, Bucket=t.bucket, Token="t",
            ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}, status=501)
    equal(t.raw.call("DELETE", t.path, "object-lock=").status, 501)
    equal(get(), {"ObjectLockEnabled": "Enabled"})


@case
def a_default_is_given_to_new_versions_at_their_commit(t):
    enable(t, Mode="GOVERNANCE", Days=3)
    rule = t.s3.get_object_lock_configuration(Bucket=t.bucket)["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    equal(rule, {"Mode": "GOVERNANCE", "Days": 3})
    version = put(t)
    modified = t.head("k")["LastModified"]
    mode, date = retention(t, version)
    equal(mode, "GOVERNANCE")
    assert datetime.timedelta() <= date - (modified + 3 * DAY) < SECOND, (date, modified)
    _, _, done = t.upload("k", [b"part"])
    equal(retention(t, done["VersionId"])[0], "GOVERNANCE")
    copied = t.s3.copy_object(Bucket=t.bucket, Key="copy", CopySource={"Bucket": t.bucket, "Key": "k"})["VersionId"]
    equal(retention(t, copied, "copy")[0], "GOVERNANCE")
    assert "GOVERNANCE" in kept(t, version)
    own = put(t, **lock_headers(ahead=DAY))
    assert retention(t, own)[1] < now() + 2 * DAY, "what a version brings comes before the default"
    configure(t, Mode="GOVERNANCE", Years=1)
    yearly = retention(t, put(t))[1] - now()
    assert 364 * DAY < yearly < 367 * DAY, yearly
    equal(retention(t, version), (mode, date), "versions keep what they were given")
    configure(t)
    assert "ObjectLockMode" not in t.head("k", VersionId=put(t))
    empty(t)


@case
def a_version_comes_with_its_lock(t):
    enable(t)
    for mode, ahead in (("GOVERNANCE", DAY), ("COMPLIANCE", 2 * SECOND)):
        asked = lock_headers(mode, ahead, ObjectLockLegalHoldStatus="ON")
        version = put(t, **asked)
        for answer in (t.head("k", VersionId=version), t.get("k", VersionId=version)):
            for name, value in asked.items():
                equal(answer[name], value, name)
        equal(retention(t, version), (mode, asked["ObjectLockRetainUntilDate"]))
        equal(t.s3.get_object_legal_hold(Bucket=t.bucket, Key="k", VersionId=version)["LegalHold"]["Status"], "ON")
    asked = lock_headers()
    _, _, done = t.upload("k", [b"part"], **asked)
    equal(retention(t, done["VersionId"]), ("GOVERNANCE", asked["ObjectLockRetainUntilDate"]))
    source = {"Bucket": t.bucket, "Key": "k"}
    plain = t.s3.copy_object(Bucket=t.bucket, Key="copy", CopySource=source)["VersionId"]
    refused("NoSuchObjectLockConfiguration", retention, t, plain, "copy", status=404)
    locked = t.s3.copy_object(Bucket=t.bucket, Key="copy", CopySource=source, **asked)["VersionId"]
    equal(retention(t, locked, "copy"), ("GOVERNANCE", asked["ObjectLockRetainUntilDate"]))
    delete(t, plain, "copy")
    kept(t, locked, "copy")
    empty(t)


@case
def governance_keeps_a_version_unless_it_is_bypassed(t):
    enable(t)
    version = put(t, **lock_headers())
    says = kept(t, version)
    assert "GOVERNANCE" in says and str((now() + DAY).year) in says, says
    kept(t, version, bypass=False)
    gone = t.s3.delete_object(Bucket=t.bucket, Key="k")
    equal(gone["DeleteMarker"], True)
    delete(t, gone["VersionId"])
    mode, date = retention(t, version)
    for shorter in (("GOVERNANCE", date - SECOND), ("COMPLIANCE", date + SECOND)):
        refused("AccessDenied", retain, t, version, *shorter, status=403)
    retain(t, version, "GOVERNANCE", date + DAY)
    retain(t, version, "GOVERNANCE", date, bypass=True)
    equal(retention(t, version), (mode, date))
    refused("MalformedXML", retain, t, version, status=400)
    retain(t, version, bypass=True)
    refused("NoSuchObjectLockConfiguration", retention, t, version, status=404)
    delete(t, version)
    version = put(t, **lock_headers())
    delete(t, version, bypass=True)
    equal(listed(t), [])


@case
def compliance_is_extended_and_never_shortened(t):
    enable(t)
    date = until(2 * SECOND)
    version = put(t, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=date)
    assert "COMPLIANCE" in kept(t, version, bypass=True)
    for bypass in (None, True):
        for change in (("COMPLIANCE", date - SECOND), ("GOVERNANCE", date + DAY)):
            refused("AccessDenied", retain, t, version, *change, bypass, status=403)
    refused("AccessDenied", retain, t, version, bypass=True, status=403)
    later = date + SECOND
    retain(t, version, "COMPLIANCE", later)
    equal(retention(t, version), ("COMPLIANCE", later))
    kept(t, version)
    time.sleep(max(0, (later - now()).total_seconds()) + 0.01)
    equal(retention(t, version), ("COMPLIANCE", later), "what has run out is still shown")
    delete(t, version)


@case
def a_legal_hold_is_independent_of_dates(t):
    enable(t)
    version = put(t)
    refused("NoSuchObjectLockConfiguration", t.s3.get_object_legal_hold, Bucket=t.bucket, Key="k", VersionId=version, status=404)
    hold(t, version, "ON")
    assert "legal hold" in kept(t, version)
    kept(t, version, bypass=True)
    hold(t, version, "OFF")
    status = lambda: t.s3.get_object_legal_hold(Bucket=t.bucket, Key="k")["LegalHold"]["Status"]
    equal(status(), "OFF")
    retain(t, version, "GOVERNANCE", until(DAY))
    hold(t, version, "ON")
    retain(t, version, bypass=True)
    equal(status(), "ON")
    kept(t, version, bypass=True)
    hold(t, version, "OFF")
    delete(t, version)


@case
def deleting_many_versions_answers_for_each_that_is_kept(t):
    enable(t)
    locked, held, free = put(t, "a", **lock_headers()), put(t, "b", ObjectLockLegalHoldStatus="ON"), put(t, "c")
    objects = [{"Key": key, "VersionId": version} for key, version in (("a", locked), ("b", held), ("c", free), ("a", "null"))]
    answer = t.s3.delete_objects(Bucket=t.bucket, Delete={"Objects": objects})
    equal([(e["Key"], e["VersionId"], e["Code"]) for e in answer["Errors"]], [("a", locked, "AccessDenied"), ("b", held, "AccessDenied")])
    assert "GOVERNANCE" in answer["Errors"][0]["Message"] and "legal hold" in answer["Errors"][1]["Message"]
    equal([row["Key"] for row in answer["Deleted"]], ["c", "a"])
    answer = t.s3.delete_objects(Bucket=t.bucket, Delete={"Objects": objects[:2]}, BypassGovernanceRetention=True)
    equal(([e["Key"] for e in answer["Errors"]], [row["Key"] for row in answer["Deleted"]]), (["b"], ["a"]))
    refused("BucketNotEmpty", t.s3.delete_bucket, Bucket=t.bucket, status=409)
    empty(t)


@case
def locks_need_a_bucket_with_object_lock(t):
    keep(t)
    version = put(t)
    refused("InvalidRequest", t.put, "no", **lock_headers(), status=400)
    refused("InvalidRequest", t.put, "no", ObjectLockLegalHoldStatus="ON", status=400)
    refused("InvalidRequest", t.s3.create_multipart_upload, Bucket=t.bucket, Key="no", **lock_headers(), status=400)
    copy = {"Bucket": t.bucket, "Key": "no", "CopySource": {"Bucket": t.bucket, "Key": "k"}}
    refused("InvalidRequest", t.s3.copy_object, **copy, **lock_headers(), status=400)
    refused("InvalidRequest", retain, t, version, "GOVERNANCE", until(DAY), status=400)
    refused("InvalidRequest", hold, t, version, "ON", status=400)
    refused("InvalidRequest", retention, t, version, status=400)
    refused("InvalidRequest", t.s3.get_object_legal_hold, Bucket=t.bucket, Key="k", status=400)
    equal([row[0] for row in listed(t)], ["k"])
    delete(t, version)


@case
def headers_of_locks_are_read_strictly(t):
    enable(t)
    date = until(DAY)
    refused("InvalidArgument", t.put, "k", ObjectLockMode="GOVERNANCE", status=400)
    refused("InvalidArgument", t.put, "k", ObjectLockRetainUntilDate=date, status=400)
    refused("InvalidArgument", t.put, "k", ObjectLockMode="governance", ObjectLockRetainUntilDate=date, status=400)
    refused("InvalidArgument", t.put, "k", ObjectLockLegalHoldStatus="on", status=400)
    for past in (until(-SECOND), datetime.datetime(1970, 1, 1)):
        refused("InvalidArgument", t.put, "k", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=past, status=400)
    plain = {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": date.isoformat()}
    path, body = f"{t.path}/k", b"body"
    answered(t.raw.call("PUT", path, headers={**plain, "x-amz-object-lock-retain-until-date": "tomorrow"}, body=body), 400, "InvalidArgument")
    answered(t.raw.call("PUT", path, headers=plain, body=body), 400, "InvalidRequest")
    answered(t.raw.call("PUT", path, headers={"x-amz-object-lock-legal-hold": "ON"}, body=body), 400, "InvalidRequest")
    answered(t.raw.call("PUT", path, late=plain, body=body), 403, "AccessDenied")
    equal(listed(t), [])
    answered(t.raw.call("PUT", path, headers={**plain, "content-md5": "hBotaJrYa9FhFEdFPCLG/A=="}, body=body), 200)
    version = listed(t)[0][1]
    answered(t.raw.call("DELETE", path, f"versionId={version}", late={"x-amz-bypass-governance-retention": "true"}), 403, "AccessDenied")
    answered(t.raw.call("DELETE", path, f"versionId={version}&x-amz-bypass-governance-retention=true"), 400, "InvalidArgument")
    answered(t.raw.call("DELETE", path, f"versionId={version}", headers={"x-amz-bypass-governance-retention": "yes"}), 400)
    kept(t, version)
    empty(t)


@case
def documents_of_locks_are_read_strictly(t):
    enable(t)
    version = put(t, **lock_headers())
    before, date = retention(t, version), (now() + 2 * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
    bypass = {"x-amz-bypass-governance-retention": "true"}
    for body in (
        "",
        "<Retention><Mode>GOVERNANCE</Mode></Retention>",
        f"<Retention><RetainUntilDate>{date}</RetainUntilDate></Retention>",
        f"<Retention><Mode>governance</Mode><RetainUntilDate>{date}</RetainUntilDate></Retention>",
        "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2030-13-01T00:00:00Z</RetainUntilDate></Retention>",
        f"<Retention><Mod>COMPLIANCE</Mod><RetainTillDate>{date}</RetainTillDate></Retention>",
        "<Retention><!-- --></Retention>",
        "<Retain/>",
        "<Retention>",
        "not XML",
    ):
        answered(raw(t, f"retention=&versionId={version}", body.encode(), **bypass), 400, "MalformedXML")
    for body in ("", "<LegalHold/>", "<LegalHold><Status>on</Status></LegalHold>", "<LegalHold><State>ON</State></LegalHold>"):
        answered(raw(t, "legal-hold=", body.encode()), 400, "MalformedXML")
    lock = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{}</ObjectLockConfiguration>"
    default = lambda text: lock.format(f"<Rule><DefaultRetention>{text}</DefaultRetention></Rule>")
    for body in (
        "",
        "<ObjectLockConfiguration/>",
        lock.replace("Enabled<", "Disabled<").format(""),
        lock.format("<Rule/>"),
        lock.format("<Rules/>"),
        default(""),
        default("<Mode>GOVERNANCE</Mode>"),
        default("<Days>1</Days>"),
        default("<Mode>abc</Mode><Days>1</Days>"),
        default("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"),
        default("<Mode>GOVERNANCE</Mode><Days>one</Days>"),
    ):
        answered(raw(t, "object-lock=", body.encode(), t.path), 400, "MalformedXML")
    for count in ("<Days>0</Days>", "<Days>-1</Days>", "<Years>0</Years>"):
        answered(raw(t, "object-lock=", default(f"<Mode>GOVERNANCE</Mode>{count}").encode(), t.path), 400, "InvalidRetentionPeriod")
    for count in ("<Days>36501</Days>", "<Years>101</Years>"):
        answered(raw(t, "object-lock=", default(f"<Mode>GOVERNANCE</Mode>{count}").encode(), t.path), 400, "InvalidArgument")
    configuration = t.s3.get_object_lock_configuration(Bucket=t.bucket)["ObjectLockConfiguration"]
    equal((retention(t, version), configuration), (before, {"ObjectLockEnabled": "Enabled"}))
    body = f"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{date}</RetainUntilDate></Retention>".encode()
    wrong = {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    answered(raw(t, f"retention=&versionId={version}", body, **wrong), 400, "BadDigest")
    answer = answered(raw(t, f"retention=&versionId={version}", body), 200)
    assert answer.headers["x-stele-log"].startswith("0/"), answer.headers
    empty(t)


@case
def what_can_not_be_locked_says_so(t):
    enable(t)
    version = put(t)
    marker = t.s3.delete_object(Bucket=t.bucket, Key="k")["VersionId"]
    for call in (lambda **at: retain(t, at["VersionId"], "GOVERNANCE", until(DAY)), lambda **at: hold(t, at["VersionId"], "ON")):
        refused("MethodNotAllowed", call, VersionId=marker, status=405)
        refused("NoSuchVersion", call, VersionId="0" * 32, status=404)
        refused("InvalidArgument", call, VersionId="no id", status=400)
    refused("MethodNotAllowed", retention, t, marker, status=405)
    refused("NoSuchKey", t.s3.get_object_retention, Bucket=t.bucket, Key="k", status=404)
    refused("InvalidArgument", retain, t, version, "GOVERNANCE", until(-SECOND), status=400)
    missing = "missing-" + t.bucket[:40]
    refused("NoSuchBucket", t.s3.get_object_lock_configuration, Bucket=missing, status=404)
    put_tags(t, "k", tag_set(a="b"), VersionId=version)
    retain(t, version, "GOVERNANCE", until(DAY))
    put_tags(t, "k", tag_set(a="c"), VersionId=version)
    assert retention(t, version)[0] == "GOVERNANCE", "tags and locks don't touch each other"
    empty(t)


@case
def encryption_and_lifecycle_of_a_bucket_are_not_pretended(t):
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    expire = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    for name, more in (
        ("put_bucket_encryption", {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}),
        ("delete_bucket_encryption", {}),
        ("put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": [expire]}}),
        ("delete_bucket_lifecycle", {}),
    ):
        error = refused("NotImplemented", getattr(t.s3, name), Bucket=t.bucket, status=501, **more)
        assert error["Error"]["Message"], f"{name}: no text"
    refused("ServerSideEncryptionConfigurationNotFoundError", t.s3.get_bucket_encryption, Bucket=t.bucket, status=404)
    refused("NoSuchLifecycleConfiguration", t.s3.get_bucket_lifecycle_configuration, Bucket=t.bucket, status=404)
    copy = {"Bucket": t.bucket, "Key": "no", "CopySource": {"Bucket": t.bucket, "Key": "k"}}
    t.put("k")
    for settings in ({"ServerSideEncryption": "AES256"}, {"ServerSideEncryption": "aws:kms"}, {"SSEKMSKeyId": "x"}):
        refused("NotImplemented", t.put, "no", **settings, status=501)
        refused("NotImplemented", t.s3.create_multipart_upload, Bucket=t.bucket, Key="no", **settings, status=501)
        refused("NotImplemented", t.s3.copy_object, **copy, **settings, status=501)
    equal(t.keys(), ["k"])
