"""restic: backups of real files, every byte checked, prune that gives space back, restore of each snapshot."""

import json
import pathlib
import shutil

from stored import ENDPOINT, INPUT, client, files, keys, require, run

BUCKET = "restic-check"
REPOSITORY = {"RESTIC_REPOSITORY": f"s3:{ENDPOINT}/{BUCKET}", "RESTIC_PASSWORD": "a password"}


def restic(*words, code=0):
    return run("restic", "--quiet", *words, code=code, **REPOSITORY)


def size():
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return sum(row["Size"] for page in pages for row in page.get("Contents", []))


def restored(snapshot, wanted):
    target = pathlib.Path("restored")
    shutil.rmtree(target, ignore_errors=True)
    restic("restore", snapshot, "--target", str(target))
    found = {name: digest for name, digest in files(target).items()}
    found = {name.split("source/", 1)[1]: digest for name, digest in found.items()}
    require(found == wanted, f"snapshot {snapshot} restores other files")


def main():
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
