"""boto3: real files in both checksum modes and with every algorithm, parts, ranges, versions, conditions, links,
non-ASCII names."""

import hashlib
import io
import urllib.request

from botocore.exceptions import ClientError

from stored import INPUT, client, holds, keys, require

BUCKET = "boto3-check"
# botocore computes the other two only with the AWS common runtime: check_boto3_crt.py.
ALGORITHMS = ("CRC32", "SHA1", "SHA256")


def refused(code, call, **words):
    try:
        call(**words)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        require(found == code, f"{found}, not {code}")
    else:
        require(False, f"was not refused with {code}")


def folders():
    for mode in ("when_supported", "when_required"):
        s3 = client(request_checksum_calculation=mode, response_checksum_validation=mode)
        for path in (path for path in INPUT.rglob("*") if path.is_file()):
            s3.upload_file(str(path), BUCKET, f"{mode}/{path.relative_to(INPUT)}")
        holds(BUCKET, f"{mode}/", INPUT)


def algorithms(s3):
    body = (INPUT / "large.bin").read_bytes()
    for algorithm in ALGORITHMS:
        s3.upload_fileobj(io.BytesIO(body), BUCKET, f"sums/{algorithm}", ExtraArgs={"ChecksumAlgorithm": algorithm})
        head = s3.head_object(Bucket=BUCKET, Key=f"sums/{algorithm}", ChecksumMode="ENABLED")
        require(f"Checksum{algorithm}" in head, f"{algorithm} was not kept: {head}")
        require(s3.get_object(Bucket=BUCKET, Key=f"sums/{algorithm}")["Body"].read() == body, f"{algorithm}: differs")
    middle = s3.get_object(Bucket=BUCKET, Key="sums/SHA256", Range="bytes=7999990-8000009")["Body"].read()
    require(middle == body[7999990:8000010], "a range across two parts differs")


def versions(s3):
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    ids = [s3.put_object(Bucket=BUCKET, Key="v", Body=f"{n}".encode())["VersionId"] for n in range(3)]
    s3.delete_object(Bucket=BUCKET, Key="v")
    refused("NoSuchKey", s3.get_object, Bucket=BUCKET, Key="v")
    found = [s3.get_object(Bucket=BUCKET, Key="v", VersionId=one)["Body"].read() for one in ids]
    require(found == [b"0", b"1", b"2"], f"versions hold {found}")
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET)
    for page in pages:
        rows = page.get("Versions", []) + page.get("DeleteMarkers", [])
        listed = [{"Key": row["Key"], "VersionId": row["VersionId"]} for row in rows]
        answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": listed})
        require(not answer.get("Errors"), f"{answer.get('Errors')}")
    require(keys(BUCKET) == [], "something is left")


def main():
    s3 = client(signature_version="s3v4")
    s3.create_bucket(Bucket=BUCKET)
    folders()
    algorithms(s3)
    key, body = "影像/ß — ü.dcm", b"names are kept as they are"
    s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata={"patient": "none"})
    link = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key}, ExpiresIn=60)
    with urllib.request.urlopen(link, timeout=30) as answer:
        require(answer.read() == body, "a link gives other bytes")
    refused("PreconditionFailed", s3.put_object, Bucket=BUCKET, Key=key, Body=b"", IfNoneMatch="*")
    etag = f'"{hashlib.md5(body).hexdigest()}"'
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"", IfMatch=etag)
    refused("PreconditionFailed", s3.put_object, Bucket=BUCKET, Key=key, Body=b"", IfMatch=etag)
    versions(s3)
    s3.delete_bucket(Bucket=BUCKET)


main()
