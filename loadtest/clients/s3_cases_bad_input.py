"""Cases of s3_suite.py: whatever a client may do wrong. Each must end in the right error, and the
store must neither keep what was refused nor stop."""

import datetime
import hashlib
import time

from s3_raw import EMPTY_SHA256, Raw, checksum
from s3_suite import answered, case, equal, refused

SHA_OF_X = hashlib.sha256(b"x").hexdigest()


@case
def wrong_and_missing_credentials(t):
    key = f"{t.path}/k"
    t.put("k", b"kept")
    answered(Raw(t.url, t.access, "wrong" + t.secret).call("GET", key), 403, "SignatureDoesNotMatch")
    answered(Raw(t.url, "nobody", t.secret).call("GET", key), 403, "InvalidAccessKeyId")
    for method in ("GET", "PUT", "DELETE"):
        answered(t.raw.plain(method, key), 403, "AccessDenied")
    equal(t.raw.plain("HEAD", key).status, 403, "anonymous HEAD")
    answered(t.raw.plain("GET", "/"), 403, "AccessDenied")
    answered(t.raw.call("GET", key, headers={"x-amz-security-token": "token"}), 400, "InvalidToken")
    for authorization in ("Bearer abc", "Basic YTpi", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=x", "AWS a:b", ""):
        answer = t.raw.plain("GET", key, {"authorization": authorization})
        assert answer.status in (400, 403), f"{authorization!r}: {answer}"
    equal(t.body("k"), b"kept", "body")


@case
def skewed_clocks_and_wrong_scopes(t):
    now = datetime.datetime.now(datetime.timezone.utc)
    for minutes in (-20, 20):
        answer = t.raw.call("GET", t.path, when=now + datetime.timedelta(minutes=minutes))
        answered(answer, 403, "RequestTimeTooSkewed")
        assert answer.headers.get("date"), "no Date to correct the clock by"
    signed = t.raw.sign("GET", t.path, "", {}, EMPTY_SHA256)
    other_service = {k: v.replace("/s3/aws4_request", "/ec2/aws4_request") for k, v in signed.items()}
    assert t.raw.plain("GET", t.path, other_service).status in (400, 403, 501), "scope of another service"


@case
def unsigned_amz_headers_are_refused(t):
    t.put("source", b"secret")
    for name, value in [
        ("x-amz-copy-source", f"/{t.bucket}/source"), ("x-amz-meta-a", "b"), ("x-amz-acl", "public-read"),
        ("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-tagging", "a=b"),
        ("x-amz-object-lock-mode", "COMPLIANCE"), ("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00Z"),
        ("x-amz-object-lock-legal-hold", "ON"), ("x-amz-bypass-governance-retention", "true"),
        ("x-amz-server-side-encryption", "AES256"), ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-storage-class", "GLACIER"), ("x-amz-website-redirect-location", "/elsewhere"),
        ("x-amz-write-offset-bytes", "0"), ("x-amz-rename-source", "source"), ("x-amz-grant-read", "id=1"),
    ]:
        answered(t.raw.call("PUT", f"{t.path}/k", body=b"x", late={name: value}), 403, "AccessDenied")
    presigned = t.raw.presign("PUT", f"{t.path}/k")
    answered(t.raw.plain("PUT", presigned, {"x-amz-copy-source": f"/{t.bucket}/source"}, b""), 403, "AccessDenied")
    bypass = {"x-amz-bypass-governance-retention": "true"}
    answered(t.raw.call("DELETE", f"{t.path}/source", late=bypass), 403, "AccessDenied")
    equal(t.keys(), ["source"], "keys")


@case
def changed_requests_do_not_verify(t):
    signed = t.raw.sign("PUT", f"{t.path}/k", "", {"x-amz-meta-a": "b"}, SHA_OF_X)
    answered(t.raw.plain("PUT", f"{t.path}/other", signed, b"x"), 403, "SignatureDoesNotMatch")
    answered(t.raw.plain("PUT", f"{t.path}/k", {**signed, "x-amz-meta-a": "c"}, b"x"), 403, "SignatureDoesNotMatch")
    answer = t.raw.plain("PUT", f"{t.path}/k", signed, b"y")
    answered(answer, 400, "XAmzContentSHA256Mismatch")
    answer = t.raw.call("PUT", f"{t.path}/k", body=b"x", payload="nonsense")
    assert answer.status in (400, 403), answer
    equal(t.keys(), [], "keys")


@case
def lying_lengths_store_nothing(t):
    for declared, sent in ((100, 50), (10_000_000, 9_000_000)):
        body = b"a" * sent
        full = hashlib.sha256(b"a" * declared).hexdigest()
        for payload in (full, "UNSIGNED-PAYLOAD"):
            headers = t.raw.sign("PUT", f"{t.path}/short", "", {"content-length": str(declared)}, payload)
            answer = t.raw.bytes(t.raw.head_bytes("PUT", f"{t.path}/short", headers) + body, shut=True)
            assert not answer.startswith(b"HTTP/1.1 200"), f"{declared} declared, {sent} sent: {answer[:80]}"
    headers = t.raw.sign("PUT", f"{t.path}/none", "", {"connection": "close"}, "UNSIGNED-PAYLOAD")
    answer = t.raw.bytes(t.raw.head_bytes("PUT", f"{t.path}/none", headers))
    assert b" 411 " in answer.split(b"\r\n")[0] and b"MissingContentLength" in answer, f"no length: {answer[:300]}"
    headers = {"transfer-encoding": "chunked", "connection": "close"}
    headers = t.raw.sign("PUT", f"{t.path}/te", "", headers, "UNSIGNED-PAYLOAD", unsigned=("transfer-encoding", "connection"))
    answer = t.raw.bytes(t.raw.head_bytes("PUT", f"{t.path}/te", headers) + b"1\r\nx\r\n0\r\n\r\n")
    assert answer.split(b" ")[1][:1] == b"4", f"chunked without length: {answer[:80]}"
    for length in ("-1", "1x", "99999999999999999999999"):
        headers = t.raw.sign("PUT", f"{t.path}/odd", "", {"content-length": length}, "UNSIGNED-PAYLOAD")
        answer = t.raw.bytes(t.raw.head_bytes("PUT", f"{t.path}/odd", headers) + b"x")
        assert answer.startswith(b"HTTP/1.1 400") or not answer, f"content-length {length}: {answer[:80]}"
    huge = str(6 * 1024**4)
    headers = t.raw.sign("PUT", f"{t.path}/huge", "", {"content-length": huge}, "UNSIGNED-PAYLOAD")
    answer = t.raw.bytes(t.raw.head_bytes("PUT", f"{t.path}/huge", headers))
    assert b" 400 " in answer.split(b"\r\n")[0] and b"EntityTooLarge" in answer, f"6 TiB: {answer[:300]}"
    equal(t.keys(), [], "keys")


@case
def contradicting_checksums_are_refused(t):
    two = {"x-amz-checksum-crc32": checksum("crc32", b"x"), "x-amz-checksum-sha1": checksum("sha1", b"x")}
    answered(t.raw.call("PUT", f"{t.path}/k", headers=two, body=b"x"), 400, "InvalidRequest")
    promised = {"x-amz-sdk-checksum-algorithm": "CRC32"}
    answered(t.raw.call("PUT", f"{t.path}/k", headers=promised, body=b"x"), 400, "InvalidRequest")
    answered(t.raw.call("PUT", f"{t.path}/k", headers={"x-amz-trailer": "x-amz-checksum-crc32"}, body=b"x"), 400)
    equal(t.keys(), [], "keys")


@case
def framing_that_would_be_stored_is_refused(t):
    framed = b"1\r\nx\r\n0\r\n\r\n"
    for headers in ({"content-encoding": "aws-chunked"}, {"x-amz-decoded-content-length": "1"}):
        answered(t.raw.call("PUT", f"{t.path}/k", headers=headers, body=framed, payload="UNSIGNED-PAYLOAD"), 400)
        assert t.raw.plain("PUT", f"{t.path}/k", headers, framed).status in (400, 403), "anonymous"
        presigned = t.raw.presign("PUT", f"{t.path}/k")
        assert t.raw.plain("PUT", presigned, headers, framed).status in (400, 403), "presigned"
    equal(t.keys(), [], "keys")


@case
def illegal_bucket_names(t):
    for name in ("ab", "UPPER", "a..b", "under_score", "-dash", "dash-", "192.168.1.1", "a" * 64, "xn--a", "sp%20ace"):
        answer = t.raw.call("PUT", f"/{name}")
        assert answer.status == 400, f"{name}: {answer}"
        assert answer.code in ("InvalidBucketName", "InvalidURI"), f"{name}: {answer}"


@case
def paths_cannot_escape(t):
    for path in ("/../etc/passwd", f"{t.path}/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//", "/%00/x", f"{t.path}/%ff"):
        answer = t.raw.call("GET", path)
        assert 400 <= answer.status < 500, f"{path}: {answer}"
    for target in ("*", "no-slash", f"http://other.example{t.path}"):
        answer = t.raw.bytes(f"GET {target} HTTP/1.1\r\nhost: {t.raw.netloc}\r\nconnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 4"), f"{target}: {answer[:80]}"


@case
def foreign_sub_resources_do_not_run_the_plain_operation(t):
    t.put("k", b"kept")
    for method, path, query in [
        ("DELETE", f"{t.path}/k", "acl="), ("DELETE", f"{t.path}/k", "retention="), ("DELETE", f"{t.path}/k", "legal-hold="),
        ("DELETE", t.path, "object-lock="), ("DELETE", t.path, "policy="),
        ("PUT", f"{t.path}/k", "foo="), ("PUT", f"{t.path}/k", "tagging="), ("PUT", f"{t.path}/k", "retention="),
        ("PUT", f"{t.path}/k", "versionId=null"), ("PUT", t.path, "versioning="), ("PUT", t.path, "policy="),
        ("PUT", t.path, "lifecycle="), ("PUT", t.path, "cors="), ("POST", f"{t.path}/k", "select=&select-type=2"),
        ("POST", f"{t.path}/k", "restore="), ("GET", f"{t.path}/k", "torrent="), ("PUT", f"{t.path}/k", "renameObject="),
    ]:
        answer = t.raw.call(method, path, query, body=b"" if method in ("GET", "DELETE") else b"<x/>")
        assert answer.status in (400, 405, 501), f"{method} ?{query}: {answer}"
        if query.split("=")[0] not in ("versioning", "policy", "lifecycle", "cors", "tagging", "retention", "select", "restore", "renameObject"):
            equal((answer.status, answer.code), (501, "NotImplemented"), f"{method} ?{query}")
    equal(t.body("k"), b"kept", "body")


@case
def settings_that_cannot_be_kept_are_refused(t):
    for settings in [
        {"ServerSideEncryption": "AES256"}, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k"},
        {"ACL": "public-read"}, {"GrantRead": "id=x"}, {"StorageClass": "GLACIER"},
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "0" * 32},
    ]:
        codes = ("NotImplemented", "InvalidStorageClass", "AccessControlListNotSupported", "InvalidRequest")
        refused(codes, t.put, "k", **settings)
        refused(codes, t.s3.create_multipart_upload, Bucket=t.bucket, Key="k", **settings)
    for settings in ({"ACL": "private"}, {"ACL": "bucket-owner-full-control"}, {"StorageClass": "STANDARD"}):
        t.put("allowed", **settings)
    for query in ("x-amz-acl=public-read", "X-Amz-Object-Lock-Mode=COMPLIANCE", "x-amz-tagging=a%3Db"):
        answered(t.raw.plain("PUT", t.raw.presign("PUT", f"{t.path}/k", query), body=b"x"), 400, "InvalidArgument")
    refused("AccessDenied", t.put, "k", ExpectedBucketOwner="someone-else", status=403)
    equal(t.keys(), ["allowed"], "keys")


@case
def malformed_documents(t):
    upload = t.s3.create_multipart_upload(Bucket=t.bucket, Key="k")["UploadId"]
    documents = [
        b"", b"<", b"not xml", b"<CompleteMultipartUpload>", b"<CompleteMultipartUpload></CompleteMultipartUpload>",
        b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>",
        b"<CompleteMultipartUpload><Part><PartNumber>99999999999</PartNumber></Part></CompleteMultipartUpload>",
        b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><CompleteMultipartUpload>&b;</CompleteMultipartUpload>",
        b"<CompleteMultipartUpload>" + b"<a>" * 20_000, b"\xff\xfe\x00\x01",
    ]
    for document in documents:
        answer = t.raw.call("POST", f"{t.path}/k", f"uploadId={upload}", body=document)
        assert answer.status == 400, f"{document[:60]}: {answer}"
    answer = t.raw.call("POST", f"{t.path}/k", f"uploadId={upload}", body=b"<x>" * 4_000_000)
    assert 400 <= answer.status < 500, f"12 MB of XML: {answer}"
    answer = t.raw.call("PUT", f"/{t.bucket}-x", body=b"<CreateBucketConfiguration><LocationConstraint>")
    assert answer.status == 400, answer


@case
def garbage_on_the_wire(t):
    for data in [
        b"GARBAGE\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
        b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\nhost: x\r\n\r\n", b"GET /\r\n\r\n", b"PUT " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(1000)) + b"\r\n",
        b"GET / HTTP/1.1\r\nx-big: " + b"a" * 2_000_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
    ]:
        answer = t.raw.bytes(data, shut=True)
        assert not answer.startswith(b"HTTP/1.1 2") and not answer.startswith(b"HTTP/1.1 5"), f"{data[:40]}: {answer[:80]}"
    t.put("still-serving")


@case
def cors_preflight_is_refused_clearly(t):
    answer = t.raw.plain("OPTIONS", f"{t.path}/k", {"origin": "http://x", "access-control-request-method": "PUT"})
    assert answer.status in (403, 501) and answer.code, answer
    assert "access-control-allow-origin" not in answer.headers, "an origin was allowed"


@case
def continue_is_sent_only_after_admission(t):
    def ask(secret, condition=None):
        raw = Raw(t.url, t.access, secret)
        extra = {"content-length": "5", **({"if-none-match": condition} if condition else {})}
        headers = raw.sign("PUT", f"{t.path}/k", "", extra, hashlib.sha256(b"hello").hexdigest())
        headers["expect"] = "100-continue"
        with raw.connect() as s:
            s.sendall(raw.head_bytes("PUT", f"{t.path}/k", headers))
            first = s.recv(65536)
            if first.startswith(b"HTTP/1.1 100"):
                s.sendall(b"hello")
                return first, s.recv(65536)
            return first, b""

    first, second = ask(t.secret)
    assert first.startswith(b"HTTP/1.1 100") and second.startswith(b"HTTP/1.1 200"), (first, second)
    first, _ = ask("wrong" + t.secret)
    assert first.startswith(b"HTTP/1.1 403"), first[:80]
    first, _ = ask(t.secret, '"an-etag"')
    assert first.startswith(b"HTTP/1.1 501"), f"a condition that can't hold: {first[:80]}"


@case
def a_client_that_leaves_does_no_harm(t):
    for cut in range(10):
        headers = t.raw.sign("PUT", f"{t.path}/gone", "", {"content-length": "3000000"}, "UNSIGNED-PAYLOAD")
        with t.raw.connect() as s:
            s.sendall(t.raw.head_bytes("PUT", f"{t.path}/gone", headers) + b"a" * (cut * 299_999))
    t.put("big", b"b" * 9_000_000)
    for _ in range(10):
        headers = t.raw.sign("GET", f"{t.path}/big", "", {}, EMPTY_SHA256)
        with t.raw.connect() as s:
            s.sendall(t.raw.head_bytes("GET", f"{t.path}/big", headers))
            s.recv(10_000)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and t.keys() != ["big"]:
        time.sleep(0.2)
    equal(t.keys(), ["big"], "keys")
    equal(len(t.body("big")), 9_000_000, "bytes")


@case
def every_answer_has_an_id_of_its_own(t):
    ids = [t.raw.call("GET", t.path).headers["x-amz-request-id"] for _ in range(5)]
    equal(len(set(ids)), 5, "ids")
    answer = t.raw.call("GET", f"{t.path}/absent")
    assert answer.headers["x-amz-request-id"].encode() in answer.body, "the error body has another id or none"
    assert answer.headers.get("x-amz-id-2") and answer.headers.get("server") == "Stele", answer.headers


@case
def what_would_open_the_bucket_is_refused(t):
    t.put("k")
    acl = {"ACL": "public-read"}
    for name, more in (("put_bucket_policy", {"Policy": "{}"}), ("put_bucket_acl", acl), ("put_object_acl", {"Key": "k", **acl})):
        error = refused("NotImplemented", getattr(t.s3, name), Bucket=t.bucket, status=501, **more)
        assert error["Error"]["Message"], f"{name}: no text"
