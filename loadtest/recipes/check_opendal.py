"""opendal: real files, in one piece and in parts, ranges, listings, conditions, copies, deletions."""

import os

import opendal

from stored import ENDPOINT, INPUT, client, holds, keys, require

BUCKET = "opendal-check"


def main():
    client().create_bucket(Bucket=BUCKET)
    store = opendal.Operator("s3", bucket=BUCKET, endpoint=ENDPOINT, region=os.environ["AWS_REGION"])
    files = [path for path in INPUT.rglob("*") if path.is_file()]
    for path in files:
        with store.open(f"in/{path.relative_to(INPUT)}", "wb") as file:
            file.write(path.read_bytes())
    holds(BUCKET, "in/", INPUT)
    body = (INPUT / "large.bin").read_bytes()
    store.write("parts", body, chunk=5 << 20, concurrent=4)
    with store.open("parts", "rb") as file:
        file.seek(6_000_000)
        require(file.read(1000) == body[6_000_000:6_001_000], "a range differs")
    require(store.stat("parts").content_length == len(body), "the size differs")

    listed = sorted(entry.path for entry in store.scan("in/") if not entry.path.endswith("/"))
    require(listed == sorted(keys(BUCKET, "in/")), "a recursive listing differs")
    store.write("once", b"first", if_not_exists=True)
    try:
        store.write("once", b"second", if_not_exists=True)
        require(False, "a second write of the same name went through")
    except opendal.exceptions.ConditionNotMatch:
        pass
    store.copy("once", "twice")
    require(store.read("twice") == b"first", "a copy differs")
    store.remove_all("in/")
    require(keys(BUCKET) == ["once", "parts", "twice"], f"left are {keys(BUCKET)}")


main()
