"""minio-py: real files as signed streams and in parts, ranges, versions, links, deletions by list."""

import datetime
import os
import ssl
import urllib.request
from urllib.parse import urlsplit

from minio import Minio
from minio.commonconfig import ENABLED
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.versioningconfig import VersioningConfig

from stored import INPUT, holds, keys, require, same_files

BUCKET = "minio-check"


def main():
    endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    words = {"access_key": os.environ["AWS_ACCESS_KEY_ID"], "secret_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    minio = Minio(endpoint.netloc, secure=endpoint.scheme == "https", region="us-east-1", **words)
    minio.make_bucket(BUCKET)
    files = [path for path in INPUT.rglob("*") if path.is_file()]
    for path in files:
        minio.fput_object(BUCKET, f"in/{path.relative_to(INPUT)}", str(path), part_size=5 << 20)
    holds(BUCKET, "in/", INPUT)
    for path in files:
        minio.fget_object(BUCKET, f"in/{path.relative_to(INPUT)}", f"back/{path.relative_to(INPUT)}")
    same_files(INPUT, "back")

    body = (INPUT / "large.bin").read_bytes()
    with minio.get_object(BUCKET, "in/large.bin", offset=6_000_000, length=1000) as answer:
        require(answer.read() == body[6_000_000:6_001_000], "a range differs")
    link = minio.presigned_get_object(BUCKET, "in/large.bin", expires=datetime.timedelta(minutes=1))
    with urllib.request.urlopen(link, timeout=30, context=ssl.create_default_context()) as answer:
        require(answer.read() == body, "a link gives other bytes")
    try:
        minio.stat_object(BUCKET, "absent")
        require(False, "an absent object has a status")
    except S3Error as error:
        require(error.code == "NoSuchKey", f"{error}")

    minio.set_bucket_versioning(BUCKET, VersioningConfig(ENABLED))
    minio.remove_object(BUCKET, "in/large.bin")
    rows = list(minio.list_objects(BUCKET, recursive=True, include_version=True))
    require(sum(row.is_delete_marker for row in rows) == 1 and len(rows) == len(files) + 1, f"{len(rows)} versions")
    errors = minio.remove_objects(BUCKET, [DeleteObject(row.object_name, row.version_id) for row in rows])
    require(not list(errors) and keys(BUCKET) == [], "something is left")
    minio.remove_bucket(BUCKET)


main()
