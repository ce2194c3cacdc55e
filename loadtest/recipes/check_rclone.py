"""rclone: real files there and back, check by bytes, syncs, copies inside the store, streams, old versions."""

import os
import pathlib
import subprocess
import time

from stored import ENDPOINT, INPUT, PAGE, client, holds, keys, require, run, same_files

BUCKET = "rclone-check"
REMOTE = {
    "RCLONE_CONFIG_STELE_TYPE": "s3",
    "RCLONE_CONFIG_STELE_PROVIDER": "Other",
    "RCLONE_CONFIG_STELE_ENV_AUTH": "true",
    "RCLONE_CONFIG_STELE_REGION": "us-east-1",
    "RCLONE_CONFIG_STELE_ENDPOINT": ENDPOINT,
    # Large files go in parts.
    "RCLONE_S3_UPLOAD_CUTOFF": "8M",
    # One try: a second would hide what is tested.
    "RCLONE_RETRIES": "1",
    "RCLONE_LOW_LEVEL_RETRIES": "1",
}


def rclone(*words, code=0):
    return run("rclone", *words, code=code, **REMOTE)


def folders():
    rclone("copy", str(INPUT), f"stele:{BUCKET}/in")
    holds(BUCKET, "in/", INPUT)
    rclone("check", "--download", str(INPUT), f"stele:{BUCKET}/in")
    rclone("copy", f"stele:{BUCKET}/in", "back")
    same_files(INPUT, "back")
    rclone("check", "back", f"stele:{BUCKET}/in")
    missing = next(path for path in pathlib.Path("back").rglob("*") if path.is_file())
    missing.unlink()
    rclone("check", "back", f"stele:{BUCKET}/in", code=1)
    rclone("sync", "back", f"stele:{BUCKET}/in")
    holds(BUCKET, "in/", "back")
    rclone("copy", f"stele:{BUCKET}/in", f"stele:{BUCKET}/copy")
    holds(BUCKET, "copy/", "back")
    rclone("sync", f"stele:{BUCKET}/in/study-1", f"stele:{BUCKET}/copy")
    holds(BUCKET, "copy/", INPUT / "study-1")


def streams():
    body = (INPUT / "large.bin").read_bytes()
    environment = {**os.environ, **REMOTE}
    subprocess.run(["rclone", "rcat", f"stele:{BUCKET}/stream"], input=body, env=environment, check=True)
    require(client().get_object(Bucket=BUCKET, Key="stream")["Body"].read() == body, "a stream differs")
    found = subprocess.run(
        ["rclone", "cat", "--offset", "9000000", "--count", "77", f"stele:{BUCKET}/stream"],
        env=environment, check=True, capture_output=True,
    ).stdout
    require(found == body[9_000_000:9_000_077], "a range differs")


def versions():
    rclone("backend", "versioning", f"stele:{BUCKET}", "Enabled")
    pathlib.Path("v").mkdir()
    for text in ("one", "two", "three"):
        pathlib.Path("v/file").write_text(text)
        rclone("copyto", "--ignore-times", "v/file", f"stele:{BUCKET}/v/file")
        # rclone names old versions by their times, which S3 lists in whole seconds.
        written = int(time.time())
        while int(time.time()) == written:
            time.sleep(0.01)
    rclone("deletefile", f"stele:{BUCKET}/v/file")
    require(keys(BUCKET, "v/") == [], "a deleted file is listed")
    rclone("--s3-versions", "copy", f"stele:{BUCKET}/v", "old")
    found = sorted(path.read_text() for path in pathlib.Path("old").iterdir())
    require(found == ["one", "three", "two"], f"old versions hold {found}")
    rclone("backend", "cleanup-hidden", f"stele:{BUCKET}/v")
    rows = client().list_object_versions(Bucket=BUCKET, Prefix="v/")
    require(len(rows.get("Versions", [])) == 0, f"hidden versions are left: {rows}")


def main():
    holds("rclone-demo", "folder/", PAGE / "folder")
    rclone("mkdir", f"stele:{BUCKET}")
    folders()
    streams()
    versions()
    rclone("cleanup", f"stele:{BUCKET}")
    rclone("purge", f"stele:{BUCKET}/in")
    require(keys(BUCKET, "in/") == [], "purge left something")


main()
