"""aws cli: a folder of real files there and back in both checksum modes, a second sync that has nothing to do,
deletions, ranges, a checksum asked for by name."""

import pathlib

from stored import INPUT, PAGE, client, holds, keys, require, run, same_files

BUCKET = "aws-check"


def main():
    holds("aws-demo", "folder/", PAGE / "folder")
    run("aws", "s3", "mb", f"s3://{BUCKET}")
    for mode in ("when_supported", "when_required"):
        modes = {"AWS_REQUEST_CHECKSUM_CALCULATION": mode, "AWS_RESPONSE_CHECKSUM_VALIDATION": mode}
        run("aws", "s3", "sync", "--only-show-errors", str(INPUT), f"s3://{BUCKET}/{mode}/", **modes)
        holds(BUCKET, f"{mode}/", INPUT)
        run("aws", "s3", "sync", "--only-show-errors", f"s3://{BUCKET}/{mode}/", mode, **modes)
        same_files(INPUT, mode)
    again = run("aws", "s3", "sync", "--no-progress", str(INPUT), f"s3://{BUCKET}/when_required/")
    require(again == "", f"a second sync did something: {again}")

    small = next(path for path in pathlib.Path("when_required").rglob("*") if path.is_file() and path.stat().st_size < 4 << 20)
    small.unlink()
    run("aws", "s3", "sync", "--only-show-errors", "--delete", "when_required", f"s3://{BUCKET}/when_required/")
    holds(BUCKET, "when_required/", "when_required")

    put = ("--bucket", BUCKET, "--key", "summed", "--body", str(INPUT / "large.bin"), "--checksum-algorithm", "SHA256")
    run("aws", "s3api", "put-object", *put)
    head = client().head_object(Bucket=BUCKET, Key="summed", ChecksumMode="ENABLED")
    require("ChecksumSHA256" in head, f"no SHA-256 was kept: {head}")
    run("aws", "s3api", "get-object", "--bucket", BUCKET, "--key", "summed", "--range", "bytes=1000-1999", "piece")
    wanted = (INPUT / "large.bin").read_bytes()[1000:2000]
    require(pathlib.Path("piece").read_bytes() == wanted, "a range differs")

    run("aws", "s3", "mv", "--only-show-errors", f"s3://{BUCKET}/summed", "moved")
    require(pathlib.Path("moved").read_bytes() == (INPUT / "large.bin").read_bytes(), "a moved file differs")
    run("aws", "s3", "rm", "--only-show-errors", "--recursive", f"s3://{BUCKET}/")
    require(keys(BUCKET) == [], "rm --recursive left something")
    run("aws", "s3", "rb", f"s3://{BUCKET}")


main()
