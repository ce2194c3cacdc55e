"""s5cmd: real files there and back, a sync that has nothing to do, pipes, moves, deletions."""

import os
import pathlib
import subprocess

from stored import ENDPOINT, INPUT, PAGE, client, holds, keys, require, run, same_files

BUCKET = "s5cmd-check"


def s5cmd(*words):
    return run("s5cmd", "--log", "error", *words, S3_ENDPOINT_URL=ENDPOINT)


def main():
    holds("s5cmd-demo", "folder/", PAGE / "folder")
    s5cmd("mb", f"s3://{BUCKET}")
    s5cmd("cp", "--part-size", "5", f"{INPUT}/", f"s3://{BUCKET}/in/")
    holds(BUCKET, "in/", INPUT)
    s5cmd("cp", "--part-size", "5", f"s3://{BUCKET}/in/*", "back/")
    same_files(INPUT, "back")
    again = run("s5cmd", "sync", f"{INPUT}/", f"s3://{BUCKET}/in/", S3_ENDPOINT_URL=ENDPOINT)
    require(again == "", f"a second sync did something: {again}")

    s5cmd("cp", f"s3://{BUCKET}/in/study-0/*", f"s3://{BUCKET}/copy/")
    holds(BUCKET, "copy/", INPUT / "study-0")
    s5cmd("mv", f"s3://{BUCKET}/copy/*", f"s3://{BUCKET}/moved/")
    holds(BUCKET, "moved/", INPUT / "study-0")
    require(keys(BUCKET, "copy/") == [], "mv left its source")

    body = pathlib.Path(INPUT / "large.bin").read_bytes()
    environment = {**os.environ, "S3_ENDPOINT_URL": ENDPOINT}
    subprocess.run(["s5cmd", "pipe", f"s3://{BUCKET}/piped"], input=body, env=environment, check=True)
    require(client().get_object(Bucket=BUCKET, Key="piped")["Body"].read() == body, "what was piped differs")
    s5cmd("rm", f"s3://{BUCKET}/*")
    require(keys(BUCKET) == [], "rm left something")
    s5cmd("rb", f"s3://{BUCKET}")


main()
