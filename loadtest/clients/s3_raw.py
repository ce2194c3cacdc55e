"""Requests below the SDKs: a small SigV4 signer and raw connections, for what no SDK would send.

Used by s3_suite.py. Every request opens its own connection.
"""

import base64
import datetime
import hashlib
import hmac
import http.client
import os
import socket
import ssl
import urllib.parse

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _table(poly, bits):
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (poly if value & 1 else 0)
        table.append(value)
    return table, (1 << bits) - 1


_CRC32C = _table(0x82F63B78, 32)
_CRC64NVME = _table(0x9A6C9329AC4BC9B5, 64)


def _crc(data, table_and_mask):
    table, mask = table_and_mask
    crc = mask
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ mask


def b64(raw):
    return base64.b64encode(raw).decode()


def checksum(name, data):
    """The base64 value of x-amz-checksum-NAME."""
    if name == "crc32":
        import zlib

        return b64(zlib.crc32(data).to_bytes(4, "big"))
    if name == "crc32c":
        return b64(_crc(data, _CRC32C).to_bytes(4, "big"))
    if name == "crc64nvme":
        return b64(_crc(data, _CRC64NVME).to_bytes(8, "big"))
    if name.startswith("xxhash"):
        import xxhash

        return b64({"xxhash64": xxhash.xxh64, "xxhash3": xxhash.xxh3_64, "xxhash128": xxhash.xxh3_128}[name](data).digest())
    return b64(hashlib.new(name, data).digest())


CHECKSUMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256", "sha512", "md5", "xxhash64", "xxhash3", "xxhash128")


class Answer:
    """Status, headers (lower-case names) and body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def code(self):
        text = self.body.decode("utf-8", "replace")
        return text.split("<Code>")[1].split("</Code>")[0] if "<Code>" in text else ""

    def __repr__(self):
        return f"{self.status} {self.code or self.body[:120]!r}"


class Raw:
    """Signs and sends single requests."""

    def __init__(self, url, access, secret, region="us-east-1"):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port, self.netloc = parts.hostname, parts.port, parts.netloc
        https = parts.scheme == "https"
        # The variable that boto3 reads too.
        self.tls = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE")) if https else None
        self.access, self.secret, self.region = access, secret, region

    def connect(self, timeout=10):
        """A connection as it is, in TLS where the URL says so."""
        raw = socket.create_connection((self.host, self.port), timeout=timeout)
        return self.tls.wrap_socket(raw, server_hostname=self.host) if self.tls else raw

    def http(self):
        if self.tls:
            return http.client.HTTPSConnection(self.host, self.port, timeout=60, context=self.tls)
        return http.client.HTTPConnection(self.host, self.port, timeout=60)

    def scope_key(self, date):
        key = _hmac(("AWS4" + self.secret).encode(), date)
        for part in (self.region, "s3", "aws4_request"):
            key = _hmac(key, part)
        return key

    @staticmethod
    def canonical_query(query):
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
        quoted = sorted((urllib.parse.quote(k, "-_.~"), urllib.parse.quote(v, "-_.~")) for k, v in pairs)
        return "&".join(f"{k}={v}" for k, v in quoted)

    def sign(self, method, path, query, headers, payload, when=None, unsigned=()):
        """Adds host, date, payload hash and Authorization. `unsigned` names headers left out."""
        when = when or datetime.datetime.now(datetime.timezone.utc)
        stamp = when.strftime("%Y%m%dT%H%M%SZ")
        headers = {k.lower(): v for k, v in headers.items()}
        headers.update({"host": self.netloc, "x-amz-date": stamp, "x-amz-content-sha256": payload})
        names = sorted(name for name in headers if name not in unsigned)
        lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
        signed = ";".join(names)
        canonical = "\n".join([method, path, self.canonical_query(query), lines, signed, payload])
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        signature = hmac.new(self.scope_key(stamp[:8]), to_sign.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )
        self.last = (stamp, scope, signature)
        return headers

    def presign(self, method, path, query="", expires=60, when=None, secret=None):
        """A presigned path with query."""
        when = when or datetime.datetime.now(datetime.timezone.utc)
        stamp = when.strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        extra = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(expires),
            "X-Amz-SignedHeaders": "host",
        }
        query = "&".join(filter(None, [query, urllib.parse.urlencode(extra)]))
        canonical_query = self.canonical_query(query)
        canonical = "\n".join([method, path, canonical_query, f"host:{self.netloc}\n", "host", "UNSIGNED-PAYLOAD"])
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        signature = hmac.new(self.scope_key(stamp[:8]), to_sign.encode(), hashlib.sha256).hexdigest()
        return f"{path}?{canonical_query}&X-Amz-Signature={signature}"

    def call(self, method, path, query="", headers=None, body=b"", payload=None, late=None, **signing):
        """A signed request. `late` are headers that are added after signing."""
        payload = payload or hashlib.sha256(body).hexdigest()
        signed = self.sign(method, path, query, headers or {}, payload, **signing)
        signed.update(late or {})
        return self.plain(method, f"{path}?{query}" if query else path, signed, body)

    def plain(self, method, target, headers=None, body=b""):
        """A request as it is given."""
        connection = self.http()
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            sent = {k.lower(): v for k, v in (headers or {}).items()}
            sent.setdefault("host", self.netloc)
            if "content-length" not in sent and "transfer-encoding" not in sent:
                sent["content-length"] = str(len(body))
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders()
            try:
                connection.send(body)
            except OSError:
                pass  # The server may answer and close before it has read everything.
            response = connection.getresponse()
            content = response.read()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)
        finally:
            connection.close()

    def bytes(self, data, shut=False):
        """Sends bytes as they are; returns everything the server answers until it closes or 10 s."""
        with self.connect() as s:
            answer = b""
            try:
                s.sendall(data)
                if shut:
                    s.shutdown(socket.SHUT_WR)
                while piece := s.recv(65536):
                    answer += piece
            except OSError:
                pass  # The server may answer and close before it has read everything.
            return answer

    def head_bytes(self, method, path, headers):
        """The bytes of a request head."""
        lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()

    # aws-chunked framing

    def signed_chunks(self, path, pieces, spoil=False, headers=None):
        """PUT with STREAMING-AWS4-HMAC-SHA256-PAYLOAD."""
        total = sum(len(p) for p in pieces)
        length = sum(len(f"{len(p):x}") + len(";chunk-signature=") + 64 + 2 + len(p) + 2 for p in [*pieces, b""])
        headers = dict(headers or {})
        headers.update({"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(total)})
        headers["content-length"] = str(length)
        signed = self.sign("PUT", path, "", headers, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        stamp, scope, previous = self.last
        body = b""
        for piece in [*pieces, b""]:
            text = "\n".join(
                ["AWS4-HMAC-SHA256-PAYLOAD", stamp, scope, previous, EMPTY_SHA256, hashlib.sha256(piece).hexdigest()]
            )
            previous = hmac.new(self.scope_key(stamp[:8]), text.encode(), hashlib.sha256).hexdigest()
            shown = ("0" * 64) if spoil and piece == pieces[-1] else previous
            body += f"{len(piece):x};chunk-signature={shown}\r\n".encode() + piece + b"\r\n"
        return self.plain("PUT", path, signed, body)

    def unsigned_trailer(self, path, data, trailer, value, announce=True, decoded=None):
        """PUT with STREAMING-UNSIGNED-PAYLOAD-TRAILER; `value` None leaves the trailer out."""
        headers = {
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": str(len(data) if decoded is None else decoded),
            "transfer-encoding": "chunked",
        }
        if announce:
            headers["x-amz-trailer"] = trailer
        signed = self.sign("PUT", path, "", headers, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", unsigned=("transfer-encoding",))
        end = b"0\r\n" + (f"{trailer}:{value}\r\n".encode() if value is not None else b"") + b"\r\n"
        framed = (f"{len(data):x}\r\n".encode() + data + b"\r\n" if data else b"") + end
        body = f"{len(framed):x}\r\n".encode() + framed + b"\r\n0\r\n\r\n"
        return self.plain("PUT", path, signed, body)
