#!/usr/bin/env python3
"""Evidence as an auditor takes it home: bundles of real objects, exported by `stele evidence export` and over the S3 port,
judged by `stele-verify` in a network namespace without interfaces, in a folder that holds nothing else, and by
sha256sum and bagit, which are not Stele's. Then what was changed, and what an operator leaves out.

    evidence_bundles.py --stele target/debug/stele --work DIR --input DIR [--input DIR ...]
"""

import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request

import bagit
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from store import ACCESS, BUCKET, SECRET, Store, arguments, require, say

MIB = 1 << 20
LARGE = 1024 * MIB
RANGE = (512 * MIB + 12345, 16 * 1024)
VERIFIER_RSS_MAX = 32 * MIB
VERIFIED = "verified now"


class Auditor:
    """A folder with the verifier and what was handed over, and no network."""

    def __init__(self, verifier, folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder.resolve()
        self.verifier = shutil.copy2(verifier, self.folder / "stele-verify")
        alone = subprocess.run(["unshare", "--net", "--map-root-user", "ip", "-o", "link"], capture_output=True, text=True)
        require(alone.returncode == 0, f"no network namespace: {alone.stderr}")
        # A fresh namespace has a loopback, and it is down.
        links = alone.stdout.splitlines()
        require(all("lo:" in link and "LOWER_UP" not in link for link in links), f"the auditor has a network: {links}")

    def take(self, bundle):
        target = self.folder / bundle.name
        shutil.rmtree(target, ignore_errors=True)
        return shutil.copytree(bundle, target)

    def run(self, *words):
        command = ["unshare", "--net", "--map-root-user", str(self.verifier), *map(str, words)]
        return subprocess.run(command, cwd=self.folder, env={}, capture_output=True, text=True)

    def judge(self, bundle, *words):
        """The report of a bundle that holds."""
        done = self.run(bundle.name, *words, "--policy", "policy.txt", "--json")
        require(done.returncode == 0, f"{bundle.name} {words}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr}")
        return json.loads(done.stdout)


def states(report, question, number=None):
    """What the report says of a question, about the whole bundle or its number-th object, from 0."""
    about = None if number is None else number + 1
    claims = [found for found in report["claims"] if found["object"] == about and found["question"] == question]
    return [found["class"] for found in claims]


class Exporter:
    def __init__(self, stele, store, folder):
        self.stele, self.store, self.folder = stele, store, folder
        self.environment = dict(
            os.environ, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET, AWS_ENDPOINT_URL=store.url, RUST_BACKTRACE="0"
        )

    def command(self, *words):
        return subprocess.run([self.stele, "evidence", "export", *words], env=self.environment, capture_output=True, text=True)

    def export(self, name, *words):
        target = self.folder / name
        done = self.command(*words, "--output", str(target))
        require(done.returncode == 0, f"export {words}: {done.stderr}")
        bagit.Bag(str(target)).validate()
        for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
            checked = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", manifest], cwd=target, capture_output=True)
            require(checked.returncode == 0, f"sha256sum of {name}: {checked.stdout}")
        return target

    def refused(self, words, *expected):
        target = self.folder / "refused"
        done = self.command(*words, "--output", str(target))
        require(done.returncode != 0 and not target.exists(), f"export {words} was not refused")
        require(all(text in done.stderr for text in expected), f"export {words}: {done.stderr}")

    def signed(self, method, path, query, body=b""):
        """A request that botocore signs, as any S3 client would."""
        url = f"{self.store.url}{urllib.parse.quote(path)}?{urllib.parse.urlencode(query)}"
        request = AWSRequest(method=method, url=url, data=body)
        S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(request)
        headers = dict(request.headers.items())
        return urllib.request.Request(url, data=body or None, headers=headers, method=method)

    def over_s3(self, name, key, **query):
        with urllib.request.urlopen(self.signed("GET", f"/{BUCKET}/{key}", {"evidence": "", **query}), timeout=60) as answer:
            require(answer.headers["content-type"] == "application/x-tar", answer.headers["content-type"])
            archive = tarfile.open(fileobj=io.BytesIO(answer.read()))
        target = self.folder / name
        archive.extractall(target, filter="data")
        return target


def peak_of(command, folder):
    """Most memory that a command held at once. Not from getrusage, which counts what was there before exec."""
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env={})
    peaks = []
    while running.poll() is None:
        lines = pathlib.Path(f"/proc/{running.pid}/status").read_text().splitlines()
        peaks += [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
        time.sleep(0.01)
    require(running.returncode == 0 and len(peaks) > 5, f"{command}: {running.returncode}, {len(peaks)} looks")
    return max(peaks)


def policy_of(store):
    with urllib.request.urlopen(f"{store.admin}/log/policy", timeout=10) as answer:
        return answer.read()


def large_file(path):
    """1 GiB from a seed; every MiB is another one."""
    block = random.Random(5).randbytes(MIB)
    with path.open("wb") as file:
        for number in range(LARGE // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])


def largest(folders, pattern):
    found = [path for folder in folders for path in folder.rglob(pattern)]
    require(found, f"no {pattern} below {folders}")
    return max(found, key=lambda path: path.stat().st_size)


def multipart(s3, key, body):
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    parts = []
    for number, at in enumerate(range(0, len(body), 5 * MIB), start=1):
        part = s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=body[at : at + 5 * MIB])
        parts.append({"ETag": part["ETag"], "PartNumber": number})
    s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def whole_objects(exporter, auditor, files):
    """A bundle without the bytes; the auditor has the file."""
    for name, path in files.items():
        bundle = auditor.take(exporter.export(name, f"s3://{BUCKET}/{name}"))
        require(not list(bundle.rglob("payload*")), f"{name}: bytes in a bundle that was to have none")
        given = shutil.copy2(path, auditor.folder / "given")
        report = auditor.judge(bundle, "given")
        for claim in ("inclusion", "root", "checkpoint", "record", "chain"):
            require(states(report, claim, 0) == [VERIFIED], f"{name}: {claim} is {states(report, claim, 0)}")
        require(VERIFIED in states(report, "bytes", 0), f"{name}: bytes are {states(report, 'bytes', 0)}")
        # One byte of the file.
        size = path.stat().st_size
        at = random.Random(name).randrange(size)
        with open(given, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 4]))
        done = auditor.run(bundle.name, "given")
        require(done.returncode == 1 and "given" in done.stdout, f"{name}: byte {at} was changed: {done.returncode}")
        say(f"{name}: {size} bytes hold, a changed one does not")


def flips(auditor, bundle):
    """One changed byte of each file, and 60 anywhere: refused, with the name of the part."""
    rng = random.Random(6)
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    chosen = [(path, rng.randrange(path.stat().st_size)) for path in files + rng.choices(files, k=60)]
    for path, at in chosen:
        original = path.read_bytes()
        path.write_bytes(original[:at] + bytes([original[at] ^ (1 << rng.randrange(8))]) + original[at + 1 :])
        done = auditor.run(bundle.name, "--policy", "policy.txt")
        name = str(path.relative_to(bundle))
        require(done.returncode in (1, 2), f"byte {at} of {name} was changed, and the verdict is {done.returncode}")
        require(name in done.stdout + done.stderr, f"byte {at} of {name} was changed: {done.stdout}{done.stderr}")
        path.write_bytes(original)
    require(auditor.run(bundle.name, "--policy", "policy.txt").returncode == 0, "the bundle does not hold any more")
    say(f"{len(chosen)} changed bytes were refused, each with the name of its file")


def histories(s3, exporter, auditor):
    """What happened to a key: overwritten, deleted, hidden by a marker."""
    s3.put_object(Bucket=BUCKET, Key="gone", Body=b"to be deleted")
    s3.delete_object(Bucket=BUCKET, Key="gone")
    bundle = auditor.take(exporter.export("deleted", f"s3://{BUCKET}/gone"))
    report = auditor.judge(bundle)
    events = [found["event"] for found in report["objects"]]
    require(events == ["put", "delete"] and states(report, "chain", 1) == [VERIFIED], f"{events}")
    # A changed policy is none.
    done = auditor.run(bundle.name, "--policy", "other.txt")
    require(done.returncode == 1, f"a policy with other keys: {done.returncode}\n{done.stdout}")

    s3.create_bucket(Bucket="versions")
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    ids = [s3.put_object(Bucket="versions", Key="k", Body=b"%d" % n)["VersionId"] for n in range(3)]
    s3.delete_object(Bucket="versions", Key="k")
    s3.delete_object(Bucket="versions", Key="k", VersionId=ids[1])
    every = auditor.take(exporter.export("versions", "s3://versions/k", "--all-versions", "--payload"))
    report = auditor.judge(every)
    events = [found["event"] for found in report["objects"]]
    require(events == ["put", "put", "put", "delete-marker", "delete"], f"{events}")
    bytes_of = [states(report, "bytes", n) for n in range(3)]
    require(bytes_of == [[VERIFIED], ["not checked"], [VERIFIED]], f"{bytes_of}")
    one = auditor.judge(auditor.take(exporter.export("one", f"s3://versions/k?versionId={ids[2]}")))
    require([found["event"] for found in one["objects"]] == ["put", "delete-marker", "delete"], f"{one['objects']}")
    marked = auditor.judge(auditor.take(exporter.export("marked", "s3://versions/k")))
    require(len(marked["objects"]) == 3, "a key that a marker hides: its last version and what came since")
    # Several objects, one bundle, one checkpoint.
    keys = [f"s3://{BUCKET}/gone", "s3://versions/k", f"s3://versions/k?versionId={ids[0]}"]
    several = auditor.judge(auditor.take(exporter.export("several", *keys)))
    require(len(several["objects"]) == 7 and states(several, "one-checkpoint") == [VERIFIED], "several objects")
    say("deletions, versions and markers: every event is there, in one chain")


def ranges(exporter, auditor, name, path):
    first, count = RANGE
    bundle = auditor.take(exporter.export("range", f"s3://{BUCKET}/{name}", "--range", f"{first}-{first + count - 1}"))
    small = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    with path.open("rb") as file:
        file.seek(first)
        piece = file.read(count)
    (auditor.folder / "piece").write_bytes(piece)
    report = auditor.judge(bundle, "piece")
    require(states(report, "root", 0) == [VERIFIED] and VERIFIED in states(report, "bytes", 0), f"{report}")
    (auditor.folder / "piece").write_bytes(piece[:-1] + bytes([piece[-1] ^ 1]))
    done = auditor.run(bundle.name, "piece")
    last = str(first + count - 1)
    require(done.returncode == 1 and last in done.stdout, f"the last byte was changed:\n{done.stdout}")
    over_s3 = auditor.judge(auditor.take(exporter.over_s3("over-s3", name, range=f"{first}-{first + count - 1}")))
    require(VERIFIED in states(over_s3, "bytes", 0), "a range over the S3 port")
    say(f"16 KiB of 1 GiB in a bundle of {small} bytes")


def refusals(exporter):
    exporter.refused([f"s3://{BUCKET}/never"], "404", "NoSuchEvidence")
    exporter.refused(["s3://no-such-bucket/k"], "404", "NoSuchBucket")
    exporter.refused([f"s3://{BUCKET}/gone?versionId=nonsense"], "400", "InvalidArgument")
    exporter.refused([f"s3://{BUCKET}/large", "--range", f"{LARGE}-"], "416", "InvalidRange")
    exporter.refused([f"s3://{BUCKET}/large", "--range", "5-4"], "416")
    exporter.refused([f"s3://{BUCKET}/large", "--range", "x"], "400")
    exporter.refused([f"s3://{BUCKET}/large", f"s3://{BUCKET}/large"], "400", "asked for twice")
    unsigned = f"{exporter.store.url}/{BUCKET}/large?evidence"
    for request in (unsigned, urllib.request.Request(f"{exporter.store.url}/?evidence", data=b"{}", method="POST")):
        try:
            urllib.request.urlopen(request, timeout=10)
            require(False, "unsigned, and answered")
        except urllib.error.HTTPError as error:
            require(error.code == 403, f"unsigned: {error.code}")
    for body in (b"", b"[]", b'{"objects": []}', b'{"objects": [{"bucket": "b"}]}', b'{"objects": ' + b"[" * 9999):
        try:
            urllib.request.urlopen(exporter.signed("POST", "/", {"evidence": ""}, body), timeout=10)
            require(False, f"{body[:40]} was answered")
        except urllib.error.HTTPError as error:
            require(error.code == 400, f"{body[:40]}: {error.code}")
    say("what can't be proven is refused, with the reason")


def unread(*command):
    """Nobody reads what a command prints: it ends quietly, and with no exit code of a verdict."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([str(word) for word in command], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    require(done.returncode == 141 and not done.stderr, f"{command} without a reader: {done.returncode} {done.stderr}")


def main():
    args = arguments(__doc__, ("--input", pathlib.Path, []))
    store = Store(args.stele, args.work / "data", anchor_interval="1s")
    s3 = store.client()
    s3.create_bucket(Bucket=BUCKET)
    bundles = args.work / "bundles"
    bundles.mkdir()
    exporter = Exporter(args.stele, store, bundles)
    auditor = Auditor(pathlib.Path(args.stele).with_name("stele-verify"), args.work / "auditor")
    rng = random.Random(7)
    telemetry = args.work / "telemetry.jsonl"
    with telemetry.open("w") as file:
        for n in range(40_000):
            row = {"t": 1_790_000_000_000 + 20 * n, "speed": rng.gauss(80, 9), "wheel": [rng.randrange(4096) for _ in range(4)]}
            file.write(json.dumps(row) + "\n")
    large, joined = args.work / "large", args.work / "joined"
    large_file(large)
    joined.write_bytes(rng.randbytes(17 * MIB + 5))
    files = {"scan.dcm": largest(args.input, "MR2_UNCR.dcm"), "weights": largest(args.input, "*.safetensors")}
    files |= {"telemetry.jsonl": telemetry, "joined": joined, "large": large}
    for name, path in files.items():
        if name == "joined":
            multipart(s3, name, path.read_bytes())
        else:
            s3.upload_file(str(path), BUCKET, name)
    first = exporter.export("first", f"s3://{BUCKET}/scan.dcm")
    policy = policy_of(store)
    require((first / "data/policy.txt").read_bytes() == policy, "the bundle's policy is not the published one")
    (auditor.folder / "policy.txt").write_bytes(policy)
    other = Store(args.stele, args.work / "other", anchor_interval="1s")
    other.client().create_bucket(Bucket=BUCKET)
    other.client().put_object(Bucket=BUCKET, Key="k", Body=b"")
    Exporter(args.stele, other, bundles).export("foreign", f"s3://{BUCKET}/k")
    (auditor.folder / "other.txt").write_bytes(policy_of(other))
    other.stop()

    whole_objects(exporter, auditor, files)
    flips(auditor, auditor.take(first))
    unread(auditor.verifier, first)
    unread(args.stele, "config", "show")
    histories(s3, exporter, auditor)
    ranges(exporter, auditor, "large", large)
    refusals(exporter)
    with_bytes = auditor.take(exporter.export("with-bytes", f"s3://{BUCKET}/large", "--payload"))
    peak = peak_of([str(auditor.verifier), with_bytes.name, "--json"], auditor.folder)
    require(peak <= VERIFIER_RSS_MAX, f"stele-verify took {peak} bytes for 1 GiB")
    say(f"stele-verify: 1 GiB with its bytes in {peak / MIB:.1f} MiB")
    digest = hashlib.sha256((with_bytes / "data/object-0001/payload.bin").open("rb").read()).hexdigest()
    require(digest == hashlib.sha256(large.read_bytes()).hexdigest(), "the payload is not the object")
    store.stop()


if __name__ == "__main__":
    main()
