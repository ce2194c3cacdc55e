"""Cases of the S3 suite about browsers: requests of other origins. Imported by s3_suite.py."""

from s3_suite import answered, case, equal, refused

A, B = "https://a.example", "https://b.example"


def set_rules(t, *rules):
    t.s3.put_bucket_cors(Bucket=t.bucket, CORSConfiguration={"CORSRules": list(rules)})


def preflight(t, origin, method, headers=""):
    asked = {"origin": origin, "access-control-request-method": method}
    if headers:
        asked["access-control-request-headers"] = headers
    return t.raw.plain("OPTIONS", f"{t.path}/k", asked)


@case
def cors_rules_are_kept_and_checked(t):
    refused("NoSuchCORSConfiguration", t.s3.get_bucket_cors, Bucket=t.bucket, status=404)
    rules = [
        {
            "ID": "uploads",
            "AllowedOrigins": [A, "https://*.b.example"],
            "AllowedMethods": ["PUT", "POST"],
            "AllowedHeaders": ["x-amz-*", "content-type"],
            "ExposeHeaders": ["ETag", "x-amz-version-id"],
            "MaxAgeSeconds": 600,
        },
        {"AllowedOrigins": ["*"], "AllowedMethods": ["GET", "HEAD"]},
    ]
    set_rules(t, *rules)
    equal(t.s3.get_bucket_cors(Bucket=t.bucket)["CORSRules"], rules, "rules")
    good = {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]}
    for bad in [
        [good] * 101,
        [{**good, "AllowedMethods": ["PATCH"]}],
        [{**good, "AllowedOrigins": ["https://*.*.example"]}],
        [{**good, "ID": "i" * 256}],
        [{**good, "ExposeHeaders": ["x-*"]}],
        [{**good, "MaxAgeSeconds": -1}],
    ]:
        refused("InvalidRequest", set_rules, t, *bad, status=400)
    equal(t.s3.get_bucket_cors(Bucket=t.bucket)["CORSRules"], rules, "rules after refusals")
    refused("NoSuchBucket", t.s3.get_bucket_cors, Bucket="no-such-bucket-here", status=404)
    t.s3.delete_bucket_cors(Bucket=t.bucket)
    t.s3.delete_bucket_cors(Bucket=t.bucket)
    refused("NoSuchCORSConfiguration", t.s3.get_bucket_cors, Bucket=t.bucket, status=404)


@case
def cors_preflights_and_answers(t):
    answered(preflight(t, A, "PUT"), 403, "AccessForbidden")
    set_rules(
        t,
        {"AllowedOrigins": [A], "AllowedMethods": ["PUT"], "AllowedHeaders": ["*"], "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 60},
        {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]},
    )
    answer = answered(preflight(t, A, "PUT", "authorization, x-amz-date"), 200)
    equal(answer.headers["access-control-allow-origin"], A, "origin")
    equal(answer.headers["access-control-allow-credentials"], "true", "credentials")
    equal(answer.headers["access-control-allow-headers"], "authorization, x-amz-date", "headers")
    equal(answer.headers["access-control-max-age"], "60", "age")
    assert "Origin" in answer.headers["vary"], answer.headers
    answer = answered(preflight(t, B, "GET"), 200)
    equal(answer.headers["access-control-allow-origin"], "*", "any origin")
    assert "access-control-allow-credentials" not in answer.headers, "credentials for any origin"
    answered(preflight(t, B, "PUT"), 403, "AccessForbidden")
    answered(preflight(t, A, "PATCH"), 400, "BadRequest")
    answered(t.raw.plain("OPTIONS", f"{t.path}/k"), 400, "BadRequest")
    unknown = {"origin": A, "access-control-request-method": "PUT"}
    answered(t.raw.plain("OPTIONS", "/no-such-bucket-here/k", unknown), 403, "AccessForbidden")
    answer = answered(t.raw.call("PUT", f"{t.path}/k", body=b"x", late={"origin": A}), 200)
    equal(answer.headers["access-control-allow-origin"], A, "on an answer")
    equal(answer.headers["access-control-expose-headers"], "ETag", "exposed")
    answer = answered(t.raw.call("GET", f"{t.path}/absent", late={"origin": B}), 404, "NoSuchKey")
    equal(answer.headers["access-control-allow-origin"], "*", "on an error")
    answer = answered(t.raw.plain("GET", f"{t.path}/k", {"origin": B}), 403, "AccessDenied")
    equal(answer.headers["access-control-allow-origin"], "*", "on a refusal")


@case
def response_overrides_are_honoured_and_carry_no_second_header(t):
    t.put("k", b"x", ContentType="text/plain", CacheControl="no-cache")
    overrides = {
        "ResponseContentType": "application/x-other",
        "ResponseContentDisposition": 'attachment; filename="a b.txt"',
        "ResponseContentLanguage": "de",
        "ResponseContentEncoding": "x-none",
        "ResponseCacheControl": "max-age=5",
    }
    for call in (t.get, t.head):
        answer = call("k", **overrides)
        for name, value in overrides.items():
            equal(answer[name.removeprefix("Response")], value, name)
    equal(t.head("k")["ContentType"], "text/plain", "without overrides")
    for query in ("response-content-type=a%0D%0Ax-evil%3A%201", "response-content-disposition=%00"):
        # s3s reads a type itself and says InvalidRequest.
        answer = answered(t.raw.call("GET", f"{t.path}/k", query), 400)
        assert "x-evil" not in answer.headers, answer.headers
    answered(t.raw.plain("GET", f"{t.path}/k?response-content-type=text/html"), 403, "AccessDenied")
