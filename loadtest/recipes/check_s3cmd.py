"""s3cmd: real files there and back, parts, a sync that has nothing to do, copies, deletions."""

import pathlib

from stored import INPUT, PAGE, client, holds, keys, require, run, same_files

BUCKET = "s3cmd-check"


def s3cmd(*words):
    return run("s3cmd", "--quiet", "--no-progress", *words)


def main():
    holds("s3cmd-demo", "folder/", PAGE / "folder")
    s3cmd("mb", f"s3://{BUCKET}")
    s3cmd("sync", "--multipart-chunk-size-mb=5", f"{INPUT}/", f"s3://{BUCKET}/in/")
    holds(BUCKET, "in/", INPUT)
    pathlib.Path("back").mkdir()
    s3cmd("get", "--recursive", f"s3://{BUCKET}/in/", "back/")
    same_files(INPUT, "back")
    again = run("s3cmd", "sync", "--no-progress", f"{INPUT}/", f"s3://{BUCKET}/in/")
    require("upload:" not in again, f"a second sync did something: {again}")

    first = keys(BUCKET, "in/study-0/")[0]
    s3cmd("cp", f"s3://{BUCKET}/{first}", f"s3://{BUCKET}/copy")
    copied, source = (client().head_object(Bucket=BUCKET, Key=key)["ETag"] for key in ("copy", first))
    require(copied == source, "a copy differs")
    require("MD5 sum" in run("s3cmd", "info", f"s3://{BUCKET}/copy"), "info says nothing")
    s3cmd("del", "--recursive", "--force", f"s3://{BUCKET}/")
    require(keys(BUCKET) == [], "del left something")
    s3cmd("rb", f"s3://{BUCKET}")


main()
