"""restic: backups of real files, every byte checked, prune that gives space back, restore of each snapshot. On a
bucket with default retention prune takes nothing away: what it deleted is hidden, and comes back."""

import json
import pathlib
import shutil

from botocore.exceptions import ClientError
from stored import ENDPOINT, INPUT, client, files, keys, require, run

BUCKET = "restic-check"
LOCKED = "restic-locked"


def restic(*words, code=0, bucket=BUCKET):
    repository = {"RESTIC_REPOSITORY": f"s3:{ENDPOINT}/{bucket}", "RESTIC_PASSWORD": "a password"}
    return run("restic", "--quiet", *words, code=code, **repository)


def size():
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return sum(row["Size"] for page in pages for row in page.get("Contents", []))


def restored(snapshot, wanted, bucket=BUCKET):
    target = pathlib.Path("restored")
    shutil.rmtree(target, ignore_errors=True)
    restic("restore", snapshot, "--target", str(target), bucket=bucket)
    found = {name: digest for name, digest in files(target).items()}
    found = {name.split("source/", 1)[1]: digest for name, digest in found.items()}
    require(found == wanted, f"snapshot {snapshot} restores other files")


def versions():
    """Everything of the locked bucket: (key, version) of objects, then of delete markers."""
    pages = list(client().get_paginator("list_object_versions").paginate(Bucket=LOCKED))
    of = lambda kind: {(row["Key"], row["VersionId"]) for page in pages for row in page.get(kind, [])}
    return of("Versions"), of("DeleteMarkers")


def under_retention():
    s3, source = client(), pathlib.Path("kept/source")
    s3.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    s3.put_object_lock_configuration(
        Bucket=LOCKED, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule})
    source.mkdir(parents=True)
    (source / "old").write_text("to be forgotten " * 1000)
    restic("init", bucket=LOCKED)
    restic("backup", str(source), bucket=LOCKED)
    before = files(source)
    (source / "old").write_text("newer " * 1000)
    restic("backup", str(source), bucket=LOCKED)
    first = json.loads(restic("snapshots", "--json", bucket=LOCKED))[0]["short_id"]
    kept, _ = versions()
    restic("forget", first, "--prune", bucket=LOCKED)
    restic("check", "--read-data", bucket=LOCKED)
    after, hidden = versions()
    require(kept <= after, f"versions under retention went: {sorted(kept - after)[:3]}")
    for key, version in sorted(kept)[:5]:
        try:
            s3.delete_object(Bucket=LOCKED, Key=key, VersionId=version)
        except ClientError as error:
            require(error.response["Error"]["Code"] == "AccessDenied", f"{key}: {error}")
        else:
            require(False, f"{key} {version} was deleted under retention")
    # Its own locks stay hidden: restic would wait for their owners.
    for key, version in sorted(hidden):
        if not key.startswith("locks/"):
            s3.delete_object(Bucket=LOCKED, Key=key, VersionId=version)
    restored(first, before, LOCKED)


def main():
    under_retention()
    source = pathlib.Path("source")
    shutil.copytree(INPUT, source)
    restic("init")
    restic("backup", str(source))
    before = files(source)
    (source / "large.bin").unlink()
    (source / "new").write_text("all is well")
    restic("backup", str(source))
    after = files(source)
    restic("check", "--read-data")
    first, second = (row["short_id"] for row in json.loads(restic("snapshots", "--json")))
    restored(first, before)

    full = size()
    restic("forget", first, "--prune")
    require(size() < full - 10_000_000, f"prune left {size()} of {full} bytes")
    restic("check", "--read-data")
    restored(second, after)
    require(not [key for key in keys(BUCKET) if key.startswith("locks/")], "locks are left")


main()
