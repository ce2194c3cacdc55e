#!/usr/bin/env python3
"""Acceptance suite of the S3 endpoint: every operation, and every kind of bad input, over HTTP.

Needs boto3 (PyPI) and a running store:

    STELE_S3_URL=http://127.0.0.1:9000 STELE_ROOT_ACCESS_KEY=... STELE_ROOT_SECRET_KEY=... s3_suite.py [NAME ...]

With https:// in the URL, AWS_CA_BUNDLE names the CA's file. The store must serve the domain STELE_S3_DOMAIN
(s3.localhost, if that is not set): start it with --s3-domain s3.localhost.

Prints `NAME ok` or `NAME FAILED: why` for each case and ends with exit code 0 if none failed. NAMEs
select cases by part of their name. Each case makes buckets of its own and removes what it made.
"""

import importlib
import os
import pathlib
import random
import sys
import time
import traceback

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from s3_raw import Raw

CASES = []


def case(function):
    """Registers a case; it gets a fresh Store."""
    CASES.append(function)
    return function


class Store:
    """The endpoint under test and one bucket for the case."""

    url = os.environ.get("STELE_S3_URL", "http://127.0.0.1:9000")
    access = os.environ.get("STELE_ROOT_ACCESS_KEY", "")
    secret = os.environ.get("STELE_ROOT_SECRET_KEY", "")
    domain = os.environ.get("STELE_S3_DOMAIN", "s3.localhost")

    def __init__(self, bucket):
        self.bucket = bucket
        self.s3 = self.client()
        self.raw = Raw(self.url, self.access, self.secret)
        self.path = f"/{bucket}"

    def client(self, **config):
        config.setdefault("signature_version", "s3v4")
        config.setdefault("retries", {"max_attempts": 1, "mode": "standard"})
        config.setdefault("s3", {"addressing_style": "path"})
        config.setdefault("max_pool_connections", 64)
        return boto3.client(
            "s3",
            endpoint_url=config.pop("endpoint_url", self.url),
            aws_access_key_id=self.access,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(**config),
        )

    def put(self, key, body=b"x", **more):
        return self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, **more)

    def get(self, key, **more):
        return self.s3.get_object(Bucket=self.bucket, Key=key, **more)

    def body(self, key, **more):
        return self.get(key, **more)["Body"].read()

    def head(self, key, **more):
        return self.s3.head_object(Bucket=self.bucket, Key=key, **more)

    def keys(self, **more):
        return [o["Key"] for o in self.s3.list_objects_v2(Bucket=self.bucket, **more).get("Contents", [])]

    def upload(self, key, parts, complete=None, **create):
        """A whole multipart upload; answers (upload id, listed parts, Complete's answer)."""
        at = {"Bucket": self.bucket, "Key": key}
        at["UploadId"] = self.s3.create_multipart_upload(Bucket=self.bucket, Key=key, **create)["UploadId"]
        listed = []
        for number, body in enumerate(parts, 1):
            part = self.s3.upload_part(**at, PartNumber=number, Body=body)
            listed.append({"PartNumber": number, "ETag": part["ETag"]})
        done = self.s3.complete_multipart_upload(**at, MultipartUpload={"Parts": listed}, **(complete or {}))
        return at["UploadId"], listed, done

    def clean(self):
        for upload in self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []):
            self.s3.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        for key in self.keys():
            self.s3.delete_object(Bucket=self.bucket, Key=key)
        self.s3.delete_bucket(Bucket=self.bucket)


def refused(expected, call, *args, status=None, **kwargs):
    """The call must fail with this code (or one of them); returns the error's response."""
    codes = (expected,) if isinstance(expected, str) else expected
    try:
        call(*args, **kwargs)
    except ClientError as error:
        code, got = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert code in codes, f"{code} ({got}) instead of {expected}"
        assert status in (None, got), f"status {got} instead of {status} with {code}"
        assert error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-request-id"), "no request id"
        return error.response
    raise AssertionError(f"succeeded instead of {expected}")


def answered(answer, status, code=None):
    """A raw answer must have this status and code."""
    assert answer.status == status and code in (None, answer.code), f"{answer} instead of {status} {code or ''}"
    assert answer.headers.get("x-amz-request-id"), "no request id"
    return answer


def equal(got, wanted, what=""):
    assert got == wanted, f"{what}: {str(got)[:200]} instead of {str(wanted)[:200]}"


def run(wanted):
    failed = []
    for function in CASES:
        name = function.__name__
        if wanted and not any(part in name for part in wanted):
            continue
        store = Store(f"suite-{name.replace('_', '-')[:40]}-{random.getrandbits(32):08x}")
        began = time.monotonic()
        try:
            store.s3.create_bucket(Bucket=store.bucket)
            function(store)
            store.clean()
            print(f"{name} ok ({time.monotonic() - began:.2f} s)", flush=True)
        except Exception as error:  # noqa: BLE001 - a case may fail in any way; the others still run.
            where = traceback.extract_tb(error.__traceback__)
            line = next((f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(where) if "s3_cases" in f.filename), "")
            failed.append(f"{name} FAILED: {type(error).__name__}: {str(error)[:300]} at {line}")
            print(failed[-1], flush=True)
    return failed


if __name__ == "__main__":
    # The cases import this file; they must see this very module, not a second copy of it.
    sys.modules["s3_suite"] = sys.modules["__main__"]
    for file in sorted(pathlib.Path(__file__).parent.glob("s3_cases_*.py")):
        importlib.import_module(file.stem)
    failures = run(sys.argv[1:])
    # Again, as a log may show its end only.
    print("\n".join([f"{len(failures)} failed:", *failures]) if failures else "all passed")
    sys.exit(1 if failures else 0)
