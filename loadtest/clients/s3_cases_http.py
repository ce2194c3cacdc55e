"""Cases of the S3 suite about HTTP itself: hosts that name a bucket, and bodies that wait to be asked for.
Imported by s3_suite.py."""

import socket

from s3_raw import Raw
from s3_suite import answered, case, equal, refused

# Names below the store's domain need no resolver: they are this machine's, as the store is.
_resolve = socket.getaddrinfo


def below(t):
    """Makes names below the domain reachable; answers the endpoint of the domain itself."""
    address = t.raw.host

    def resolve(host, *more, **named):
        inside = isinstance(host, str) and host.endswith(t.domain)
        return _resolve(address if inside else host, *more, **named)

    socket.getaddrinfo = resolve
    return f"{t.url.split('://')[0]}://{t.domain}:{t.raw.port}"


@case
def virtual_hosts(t):
    endpoint = below(t)
    s3 = t.client(endpoint_url=endpoint, s3={"addressing_style": "virtual"})
    equal(s3.meta.endpoint_url, endpoint, "endpoint")
    for key in ("k", "a/b", "/slash", "%2F"):
        s3.put_object(Bucket=t.bucket, Key=key, Body=key.encode())
        equal(s3.get_object(Bucket=t.bucket, Key=key)["Body"].read(), key.encode(), key)
        equal(t.body(key), key.encode(), f"{key} by path")
    equal([o["Key"] for o in s3.list_objects_v2(Bucket=t.bucket)["Contents"]], t.keys(), "keys")
    made = f"{t.bucket}-virtual"
    s3.create_bucket(Bucket=made)
    t.s3.head_bucket(Bucket=made)
    refused("NoSuchBucket", s3.get_object, Bucket="no-such-bucket-here", Key="k", status=404)
    s3.delete_bucket(Bucket=made)
    host = Raw(endpoint.replace("://", f"://{t.bucket}."), t.access, t.secret)
    answered(host.call("GET", "/k"), 200)
    answered(host.plain("GET", host.presign("GET", "/k")), 200)
    answered(host.call("PUT", "/k", "policy", body=b"other"), 501, "NotImplemented")
    answered(host.call("DELETE", "/k", "acl"), 501, "NotImplemented")
    answered(host.call("PUT", "/", "foo"), 501, "NotImplemented")
    equal(t.body("k"), b"k", "after refusals")


@case
def bodies_are_asked_for_only_when_nothing_is_left_to_refuse(t):
    """The first line of the answer to a head whose body waits for 100 Continue."""
    t.put("k", b"kept")

    def first_line(path, body=b"body", secret=None, query="", **headers):
        raw = Raw(t.url, t.access, secret or t.secret)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers.update({"expect": "100-continue", "content-length": str(len(body))})
        signed = raw.sign("PUT", path, query, headers, "UNSIGNED-PAYLOAD", unsigned=("expect",))
        with raw.connect() as s:
            s.sendall(raw.head_bytes("PUT", f"{path}?{query}" if query else path, signed))
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += s.recv(4096)
            if answer.startswith(b"HTTP/1.1 100"):
                s.sendall(body)
                while b"\r\n\r\n" not in answer.split(b"\r\n\r\n", 1)[1]:
                    answer += s.recv(4096)
            return [line[9:12].decode() for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]

    key, upload = f"{t.path}/k", "partNumber=1&uploadId=" + "0" * 32
    equal(first_line(key, secret="wrong" + t.secret), ["403"], "wrong secret")
    equal(first_line("/no-such-bucket-here/k"), ["404"], "no bucket")
    equal(first_line(key, if_none_match="*"), ["412"], "If-None-Match")
    equal(first_line(key, if_match='"other"'), ["412"], "If-Match")
    equal(first_line(f"{t.path}/absent", if_match="*"), ["404"], "If-Match on nothing")
    equal(first_line(key, query=upload), ["404"], "no upload")
    equal(t.body("k"), b"kept", "after refusals")
    equal(first_line(key, if_match="*"), ["100", "200"], "If-Match that holds")
    equal(first_line(f"{t.path}/new", if_none_match="*"), ["100", "200"], "If-None-Match that holds")
    equal((t.body("k"), t.body("new")), (b"body", b"body"), "stored")
    # boto3 withholds bodies too, and goes on over the same connection.
    s3 = t.client(max_pool_connections=1)
    for _ in range(3):
        refused("PreconditionFailed", s3.put_object, Bucket=t.bucket, Key="k", Body=b"x" * 2**21, IfNoneMatch="*", status=412)
        s3.put_object(Bucket=t.bucket, Key="k", Body=b"y" * 2**21, IfMatch="*")
