"""boto3[crt]: the common runtime's own client carries real files, in parts and by ranges, and plain boto3 calls work
with every checksum algorithm."""

import io
import os

import boto3
import botocore.session
from s3transfer.crt import (
    BotocoreCRTCredentialsWrapper,
    BotocoreCRTRequestSerializer,
    CRTTransferManager,
    create_s3_crt_client,
)

from stored import ENDPOINT, INPUT, client, holds, require, same_files

BUCKET = "boto3-crt-check"
ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")


def transfers():
    session = botocore.session.get_session()
    keys = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
    words = {"use_ssl": ENDPOINT.startswith("https:"), "verify": os.environ.get("AWS_CA_BUNDLE"), "part_size": 5 << 20}
    runtime = create_s3_crt_client("us-east-1", crt_credentials_provider=keys, **words)
    serializer = BotocoreCRTRequestSerializer(session, {"region_name": "us-east-1", "endpoint_url": ENDPOINT})
    return CRTTransferManager(runtime, serializer)


def main():
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    names = [path.relative_to(INPUT) for path in INPUT.rglob("*") if path.is_file()]
    for name in names:
        os.makedirs(f"back/{name.parent}", exist_ok=True)
    with transfers() as manager:
        for done in [manager.upload(str(INPUT / name), BUCKET, f"crt/{name}") for name in names]:
            done.result()
        holds(BUCKET, "crt/", INPUT)
        for done in [manager.download(BUCKET, f"crt/{name}", f"back/{name}") for name in names]:
            done.result()
    same_files(INPUT, "back")

    plain, body = client(), (INPUT / "large.bin").read_bytes()
    for algorithm in ALGORITHMS:
        key = f"sums/{algorithm}"
        plain.upload_fileobj(io.BytesIO(body), BUCKET, key, ExtraArgs={"ChecksumAlgorithm": algorithm})
        head = plain.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
        require(f"Checksum{algorithm}" in head, f"{algorithm} was not kept: {head}")
        require(plain.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body, f"{algorithm}: differs")


main()
