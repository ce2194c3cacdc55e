#!/usr/bin/env python3
"""Possession audits of a store whose drives are damaged behind its back: every drive that lost, exchanged or spoiled
shards is named, and no other; what was taken home is checked again without the store, and no change of it goes unseen.

    possession.py --stele target/debug/stele --work DIR
"""

import io
import json
import os
import random
import shutil
import subprocess
import tarfile

from botocore.exceptions import ClientError

from store import ACCESS, BUCKET, SECRET, Store, arguments, require, say, wait_until

SETTINGS = {"anchor_interval": "1s"}
DRIVES = 6


class Auditor:
    def __init__(self, stele, folder):
        self.stele, self.folder, self.count = stele, folder, 0

    def command(self, store, *words):
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET, RUST_BACKTRACE="0")
        if store:
            environment["AWS_ENDPOINT_URL"] = store.url
        command = [self.stele, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        return done.returncode, done.stdout, done.stderr

    def run(self, store, *words):
        """Exit code, what was found, and the folder."""
        self.count += 1
        out = self.folder / f"run-{self.count}"
        code, text, errors = self.command(store, "audit", "run", *words, "-o", out, "--json")
        require(text, f"audit run {words}: {code} {errors}")
        return code, json.loads(text)["audits"], out

    def fine(self, store, *words):
        code, audits, out = self.run(store, *words)
        verdicts = [audit["verdicts"] for audit in audits]
        require(code == 0 and not any(v["failed"] or v["offline"] or v["contained"] for v in verdicts), f"{words}: {audits}")
        require(all(v["ok"] for v in verdicts), f"{words}: nothing was asked: {audits}")
        return audits, out

    def verify(self, out, *words):
        code, text, errors = self.command(None, "audit", "verify", out, *words, "--json")
        return code, text + errors


def fill(store):
    s3, r = store.client(), random.Random(7)
    s3.create_bucket(Bucket=BUCKET)
    for n in range(24):
        s3.put_object(Bucket=BUCKET, Key=f"k{n}", Body=r.randbytes(r.choice([300, 60_000, 2_000_000])))
    s3.put_object(Bucket=BUCKET, Key="large", Body=r.randbytes(40_000_000))


def drive_ids(store):
    return {drive["name"]: drive["id"] for drive in store.status()["drives"]}


def segments(drive):
    return sorted(path for path in drive.iterdir() if path.name.startswith("seg-"))


def emptied(drive):
    """Everything but the identity is gone, as after a file system check that went wrong."""
    for path in drive.iterdir():
        if path.name != "identity":
            path.unlink()


def lose(data):
    emptied(data / "drive-1")
    return {"drive-1"}


def exchange(data):
    """What stood on one drive stands on the other."""
    for name in {path.name for path in (data / "drive-2").iterdir() if path.name != "identity"}:
        one, other, aside = data / "drive-2" / name, data / "drive-3" / name, data / "aside"
        one.rename(aside)
        if other.exists():
            other.rename(one)
        aside.rename(other)
    return {"drive-2", "drive-3"}


def spoil(data):
    """One bit in the middle of the largest segment: a shard of the large object."""
    path = max(segments(data / "drive-4"), key=lambda path: path.stat().st_size)
    with path.open("r+b") as file:
        at = path.stat().st_size // 2
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    return {"drive-4"}


def failed_drives(audits, ids):
    places = {failed["place"] for audit in audits for failed in audit["failed"]}
    found = {name for name, id in ids.items() if any(id in place for place in places)}
    require(len(found) == len(places), f"failed places that are no drives: {places}")
    return found


def damaged(auditor, stele, whole, damage):
    """Both exit codes, and the drives by name."""
    data = whole.parent / damage.__name__
    shutil.copytree(whole, data)
    expected = damage(data)
    store = Store(stele, data, **SETTINGS)
    ids = drive_ids(store)
    code, audits, out = auditor.run(store, "--all")
    found = failed_drives(audits, ids)
    require(code == 1 and found == expected, f"{damage.__name__}: {code}, {found} instead of {expected}: {audits}")
    require(all(audit["everyRowAsked"] for audit in audits), "--all did not ask for all")
    failed = sum(audit["verdicts"]["failed"] for audit in audits)
    rows = sum(audit["coverage"][0]["rows"] for audit in audits)
    code, words = auditor.verify(out)
    require(code == 1 and all(ids[name] in words for name in expected), f"verified again: {code} {words}")
    # With more rows asked for than are whole, one that is lost is among them for certain.
    code, audits, _ = auditor.run(store, "--sample", rows - failed + 1)
    require(code == 1 and failed_drives(audits, ids) <= expected, f"a sample of all but the lost ones: {audits}")
    # Two lost shards of six do no harm, and the audit of objects says so, read cache or not.
    audits, _ = auditor.fine(store, "--key", f"s3://{BUCKET}/large")
    require(audits[0]["coverage"][0]["rows"] > 10, f"chunks of the large object: {audits}")
    store.stop()
    say(f"{damage.__name__}: {failed} of {rows} shards failed, all on {', '.join(sorted(expected))}")


def too_much(auditor, stele, whole):
    """No scheme bears the loss of all drives."""
    data = whole.parent / "too-much"
    shutil.copytree(whole, data)
    for number in range(DRIVES):
        emptied(data / f"drive-{number}")
    store = Store(stele, data, **SETTINGS)
    code, audits, _ = auditor.run(store, "--key", f"s3://{BUCKET}/k3")
    places = [failed["place"] for audit in audits for failed in audit["failed"]]
    require(code == 1 and places and all("object" in place for place in places), f"all drives are empty: {audits}")
    # Where even the manifest is lost there is nothing to ask for.
    code, _, errors = auditor.command(store, "audit", "run", "--bucket", BUCKET, "-o", whole.parent / "unlisted")
    require(code == 1 and "manifest of" in errors and "no drive has pack" in errors, f"a lost manifest: {code} {errors}")
    # Of what nobody has a header of any more, everybody says that it is gone.
    code, audits, _ = auditor.run(store, "--all")
    verdicts = audits[0]["verdicts"]
    require(code == 1 and verdicts["failed"] > 100 and not verdicts["ok"], f"all drives are empty: {verdicts}")
    store.stop()
    say("objects that can't be read any more fail")


def flipped(path, at):
    content = path.read_bytes()
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def changes(auditor, out):
    """No change of what was taken home goes unseen."""
    def changed(name, change):
        copy = auditor.folder / "changed"
        shutil.copytree(out, copy)
        change(copy / "audit-0001")
        code, words = auditor.verify(copy)
        shutil.rmtree(copy)
        require(code == 1 and "Error" in words, f"{name}: {code} {words}")

    length = (out / "audit-0001/report.audit").stat().st_size
    for at in range(0, length, max(1, length // 60)):
        changed(f"byte {at} of the report", lambda folder: flipped(folder / "report.audit", at))
    slices = sorted((out / "audit-0001/slices").iterdir())
    for path in slices[:3]:
        for at in (0, 100, path.stat().st_size - 1):
            changed(f"byte {at} of {path.name}", lambda folder: flipped(folder / "slices" / path.name, at))
    changed("slices exchanged", lambda folder: shutil.copy(folder / "slices" / slices[0].name, folder / "slices" / slices[1].name))
    changed("checkpoint", lambda folder: flipped(folder / "checkpoint", 60))
    changed("keys", lambda folder: (folder / "audit.vkeys").write_text(""))
    changed("no evidence", lambda folder: shutil.rmtree(folder / "evidence"))
    changed("report of another audit", lambda folder: shutil.copy(auditor.folder / "run-2/audit-0001/report.audit", folder))
    for path in sorted((out / "audit-0001/evidence").rglob("*")):
        if path.is_file():
            name = path.relative_to(out / "audit-0001")
            changed(f"{name}", lambda folder: flipped(folder / name, path.stat().st_size // 2))


def by_itself(auditor, stele, data):
    """Audits run without anybody, their reports are objects, and can be checked like all others."""
    store = Store(stele, data, possession_interval="3s", possession_sample="5", **SETTINGS)
    s3 = store.client()

    def reports():
        try:
            return [row["Key"] for row in s3.list_objects_v2(Bucket="stele-audits").get("Contents", [])]
        except ClientError as error:
            require(error.response["Error"]["Code"] == "NoSuchBucket", str(error))
            return []

    wait_until("two audits by themselves", 90, lambda: len(reports()) >= 2)
    key = reports()[0]
    id = key.removeprefix("audits/").removesuffix(".tar")
    folder = auditor.folder / "by-itself" / "audit-0001"
    folder.mkdir(parents=True)
    body = s3.get_object(Bucket="stele-audits", Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        archive.extractall(folder, filter="data")
    code, text, errors = auditor.command(store, "evidence", "export", f"s3://stele:cluster/audit/{id}", "-o", folder / "evidence")
    require(code == 0, f"evidence of audit {id}: {text} {errors}")
    code, words = auditor.verify(folder.parent)
    require(code == 0 and "drawn by gateway" in words, f"an audit that ran by itself: {code} {words}")
    require(store.counter("stele_gateway_possession_audits_total") >= 1, "the metric does not count")
    require(store.counter("stele_gateway_possession_failures_total") == 0, "an audit failed")
    store.stop()
    say("audits run by themselves, and their reports can be checked")


def main():
    args = arguments(__doc__)
    auditor = Auditor(args.stele, args.work)
    data = args.work / "data"
    store = Store(args.stele, data, **SETTINGS)
    code, _, errors = auditor.command(store, "audit", "run", "--all", "-o", args.work / "empty")
    require(code == 0, f"an audit of an empty store: {code} {errors}")
    fill(store)
    audits, out = auditor.fine(store, "--all")
    require(sum(len(audit["coverage"]) for audit in audits) and audits[0]["everyRowAsked"], f"--all: {audits}")
    sample, _ = auditor.fine(store, "--sample", "4", "--groups", "3")
    require(sample[0]["verdicts"]["ok"] == 12, f"4 shards with 3 groups each: {sample}")
    auditor.fine(store, "--bucket", BUCKET, "--sample", "5")
    auditor.fine(store, "--key", f"s3://{BUCKET}/k3", "--groups", "2")
    for words in (["--bucket", "nobody"], ["--key", f"s3://{BUCKET}/nothing"], ["--sample", "1", "--groups", "17"]):
        code, _, errors = auditor.command(store, "audit", "run", *words, "-o", args.work / f"refused{words[1][-3:]}")
        require(code == 1 and "Error" in errors and "answered 4" in errors, f"{words}: {code} {errors}")
    policy = out / "audit-0001/evidence/data/policy.txt"
    keys = out / "audit-0001/audit.vkeys"
    store.stop()

    code, words = auditor.verify(out, "--keys", keys, "--policy", policy)
    require(code == 0 and json.loads(words)["audits"][0]["ownKeys"], f"checked again: {code} {words}")
    (args.work / "other.vkeys").write_text(keys.read_text().replace("/node/2+", "/node/3+"))
    code, words = auditor.verify(out, "--keys", args.work / "other.vkeys")
    require(code == 1 and "Error" in words, f"keys of others: {code} {words}")
    changes(auditor, auditor.folder / "run-3")
    say("what was taken home is checked again without the store; every change of it is refused")

    for damage in (lose, exchange, spoil):
        damaged(auditor, args.stele, data, damage)
    too_much(auditor, args.stele, data)
    by_itself(auditor, args.stele, data)


if __name__ == "__main__":
    main()
