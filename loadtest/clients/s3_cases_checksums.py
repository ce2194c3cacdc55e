"""Cases of s3_suite.py: checksums of every algorithm, in trailers and in uploads of several parts."""

import base64
import random

from s3_raw import CHECKSUMS, checksum
from s3_suite import answered, case, equal, refused

PART = random.Random(11).randbytes(5 * 1024 * 1024)
LAST = random.Random(12).randbytes(70_001)


def name_of(algorithm):
    return f"Checksum{algorithm}"


@case
def every_checksum_can_come_as_a_trailer(t):
    data = random.Random(3).randbytes(100_000)
    for name in CHECKSUMS:
        header, path = f"x-amz-checksum-{name}", f"{t.path}/{name}"
        put = answered(t.raw.unsigned_trailer(path, data, header, checksum(name, data)), 200)
        equal(put.headers.get(header), checksum(name, data), name)
        answered(t.raw.unsigned_trailer(f"{t.path}/no", data, header, checksum(name, b"other")), 400, "BadDigest")
        answered(t.raw.unsigned_trailer(f"{t.path}/no", data, header, "AAAA"), 400)
        answered(t.raw.unsigned_trailer(f"{t.path}/no", data, header, None), 400)
        head = answered(t.raw.call("HEAD", path, headers={"x-amz-checksum-mode": "ENABLED"}), 200)
        equal(head.headers.get(header), checksum(name, data), f"HEAD {name}")
    answered(t.raw.unsigned_trailer(f"{t.path}/no", data, "x-amz-checksum-crc8", "AA=="), 400, "InvalidRequest")
    equal(t.keys(), sorted(CHECKSUMS), "keys")


@case
def uploads_of_several_parts_know_every_checksum(t):
    for algorithm in (name.upper() for name in CHECKSUMS):
        kinds = {"CRC32": ("COMPOSITE", "FULL_OBJECT"), "CRC32C": ("COMPOSITE", "FULL_OBJECT"), "CRC64NVME": ("FULL_OBJECT",)}
        kinds = kinds.get(algorithm, ("COMPOSITE",))
        for kind in ("COMPOSITE", "FULL_OBJECT"):
            at = {"Bucket": t.bucket, "Key": f"{algorithm}-{kind}"}
            asked = {"ChecksumAlgorithm": algorithm, "ChecksumType": kind}
            if kind not in kinds:
                refused("InvalidRequest", t.s3.create_multipart_upload, **at, **asked, status=400)
                continue
            at["UploadId"] = t.s3.create_multipart_upload(**at, **asked)["UploadId"]
            field, listed, raw = name_of(algorithm), [], b""
            for number, body in enumerate((PART, LAST), 1):
                value = checksum(algorithm.lower(), body)
                part = t.s3.upload_part(**at, PartNumber=number, Body=body, **{field: value})
                equal(part[field], value, f"{algorithm} of part {number}")
                raw += base64.b64decode(value)
                listed.append({"PartNumber": number, "ETag": part["ETag"], field: value})
            shown = t.s3.list_parts(**at)
            equal([part[field] for part in shown["Parts"]], [part[field] for part in listed], "ListParts")
            done = t.s3.complete_multipart_upload(**at, MultipartUpload={"Parts": listed}, ChecksumType=kind)
            whole = checksum(algorithm.lower(), PART + LAST)
            wanted = whole if kind == "FULL_OBJECT" else f"{checksum(algorithm.lower(), raw)}-2"
            head = t.head(at["Key"], ChecksumMode="ENABLED")
            equal((done[field], head[field], head["ChecksumType"]), (wanted, wanted, kind), f"{algorithm} {kind}")
            # Parts have checksums of their own where the object's is made of them.
            own = [part[field] for part in listed] if kind == "COMPOSITE" else [None, None]
            asked = {"Bucket": t.bucket, "Key": at["Key"], "ObjectAttributes": ["ObjectParts"]}
            found = t.s3.get_object_attributes(**asked)["ObjectParts"]["Parts"]
            equal([part.get(field) for part in found], own, f"GetObjectAttributes {algorithm} {kind}")
            for number, body in enumerate((PART, LAST), 1):
                got = t.get(at["Key"], PartNumber=number, ChecksumMode="ENABLED")
                equal((got.get(field), got["Body"].read()), (own[number - 1], body), f"GET part {number} {algorithm} {kind}")
                shown = t.head(at["Key"], PartNumber=number, ChecksumMode="ENABLED")
                equal(shown.get(field), own[number - 1], f"HEAD part {number} {algorithm} {kind}")
            t.s3.copy_object(Bucket=t.bucket, Key="copy", CopySource=f"{t.bucket}/{at['Key']}")
            found = t.s3.get_object_attributes(**{**asked, "Key": "copy"})["ObjectParts"]["Parts"]
            equal([part.get(field) for part in found], own, f"a copy, {algorithm} {kind}")


@case
def both_ways_of_boto_to_send_checksums_work(t):
    for when in ("when_supported", "when_required"):
        s3 = t.client(request_checksum_calculation=when, response_checksum_validation=when)
        s3.put_object(Bucket=t.bucket, Key=when, Body=LAST)
        equal(s3.get_object(Bucket=t.bucket, Key=when)["Body"].read(), LAST, when)
        equal("ChecksumCRC32" in t.head(when, ChecksumMode="ENABLED"), when == "when_supported", when)
        equal("ChecksumCRC64NVME" in t.head(when, ChecksumMode="ENABLED"), when == "when_required", when)
        s3.delete_objects(Bucket=t.bucket, Delete={"Objects": [{"Key": when}]})
    equal(t.keys(), [], "keys")
