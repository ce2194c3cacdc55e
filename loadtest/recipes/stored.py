"""What a check asks of the store behind a client's back: with boto3, which every Python environment here has."""

import hashlib
import os
import pathlib
import re
import subprocess
import sys

import boto3
from botocore.config import Config

INPUT = pathlib.Path(os.environ["INPUT"])
# Where the blocks of the page ran.
PAGE = pathlib.Path("../page")
ENDPOINT = os.environ["AWS_ENDPOINT_URL"]


def require(condition, text):
    """Ends the check with this text unless the condition holds."""
    if not condition:
        sys.exit(f"FAILED: {text}")


def run(*command, code=0, **variables):
    """Runs a client; returns its standard output. Any other exit code than `code` ends the check."""
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    shown = " ".join(map(str, command))
    require(done.returncode == code, f"{shown}\nexit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def client(**config):
    """boto3 for the store under test; one attempt per call, as a retry would hide what is tested."""
    return boto3.client("s3", config=Config(retries={"max_attempts": 1, "mode": "standard"}, **config))


def files(folder):
    """Relative path and SHA-256 of every file of a folder."""
    paths = (path for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def same_files(left, right):
    """Requires two folders to hold the same files."""
    one, other = files(left), files(right)
    require(one == other, f"{left} and {right} differ: {sorted(set(one.items()) ^ set(other.items()))[:6]}")
    require(one, f"{left} holds nothing")


def keys(bucket, prefix=""):
    """Every key of a bucket, in the order of the listing."""
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [row["Key"] for page in pages for row in page.get("Contents", [])]


def holds(bucket, prefix, folder):
    """Requires the objects under a prefix to be the files of a folder: names, bytes, sizes and an object root."""
    wanted, found = files(folder), {}
    for key in keys(bucket, prefix):
        answer = client().get_object(Bucket=bucket, Key=key)
        found[key.removeprefix(prefix)] = hashlib.sha256(answer["Body"].read()).hexdigest()
        root = answer["ResponseMetadata"]["HTTPHeaders"].get("x-stele-object-root", "")
        require(re.fullmatch("[0-9a-f]{64}", root), f"{bucket}/{key} has the object root {root!r}")
    require(wanted and found == wanted, f"{bucket}/{prefix} differs: {sorted(set(wanted.items()) ^ set(found.items()))[:6]}")
