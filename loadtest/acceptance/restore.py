#!/usr/bin/env python3
"""The day of the disaster: all metadata nodes and their disks are gone, and the cluster comes back from a backup and its drives.

    restore.py --stele target/debug/stele --work DIR

Objects are written, bundles exported, a backup is made, verified and drilled; then more is written, overwritten and deleted, and
sweeps run. All processes are killed and all directories of metadata nodes removed. After the restore every object of the backup
is there byte for byte, also those that were deleted after it, what came after the backup is in no listing and harms nothing,
sweeps stay off until every drive was compared, and bundles of before verify.

Twice: first the anchor signed beyond the backup, so that the log is closed and goes on under another name; then it did not,
and the log goes on as it is. Prints a row of JSON with times.
"""

import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import boto3
from botocore.config import Config

import cluster
from cluster_bench import Loopback
from store import ACCESS, BUCKET, SECRET, arguments, require, say, wait_until

SIZES = [0, 300, 60_000, 700_000, 2_000_000, 12_000_000]


def client(site):
    return boto3.client(
        "s3", endpoint_url=site.gateways[0].s3, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
        region_name="us-east-1", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


class Addresses(Loopback):
    """Addresses of its own, so that it runs beside other scripts."""

    def host(self, name):
        return super().host(name).replace("127.77.", "127.78.")


class Site(cluster.Cluster):
    """Three metadata nodes, six storage nodes, a gateway and an anchor."""

    def __init__(self, stele, work):
        super().__init__(stele, work, network=Addresses())
        self.gateways = self.gateways[:1]
        self.anchor = cluster.Node(self, "a1", "anchor")
        self.generation = 1

    @property
    def nodes(self):
        return [*super().nodes, *([self.anchor] if hasattr(self, "anchor") else [])]

    def stele_run(self, *words, ok=True):
        """`stele ...`; exit code, what it printed, and its errors."""
        command = [self.stele, *map(str, words)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
                              env=dict(cluster.environment("operator"), AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET))
        require(not ok or done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        return done

    def lose_metadata(self):
        """Every process ends at once, and what the metadata nodes had is gone."""
        for node in self.nodes:
            node.kill()
        for node in self.metadata:
            shutil.rmtree(node.data)

    def restore(self, url, key):
        """A new first metadata node of the newest backup, two more, and nothing else yet."""
        self.generation += 1
        names = [f"m{n}-{self.generation}" for n in range(1, 4)]
        self.metadata = [cluster.Node(self, name, "metadata") for name in names]
        first = self.metadata[0]
        self.admin_file = self.work / f"admin-{self.generation}.toml"
        done = self.stele_run("cluster", "restore", "--from", url, "--key", key, "--data", first.data, "--advertise",
                              f"{first.address}:{cluster.RPC}", "--admin-file", self.admin_file, "--json")
        for node in self.metadata:
            if node is not first:
                node.token = self.operate("token", "--role", "metadata").strip()
            node.start()
            node.wait_ready(time.monotonic() + cluster.READY_SECONDS)
        return json.loads(done.stdout)

    def rejoin(self, nodes):
        """Nodes come back in their own directories, with a token of the restored cluster."""
        for node in nodes:
            node.token = self.operate("token", "--role", node.role).strip()
            node.start()
        self.wait_ready(nodes)

    def backups(self):
        return (self.status() or {}).get("backups", {})


class Contents:
    """What must be there, by key."""

    def __init__(self, s3, seed):
        self.s3, self.r, self.digests = s3, random.Random(seed), {}

    def put(self, key):
        body = self.r.randbytes(self.r.choice(SIZES))
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        self.digests[key] = hashlib.sha256(body).hexdigest()

    def check(self, s3, digests):
        """Exactly these keys are listed, and every byte is what it was."""
        listed = [row["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
                  for row in page.get("Contents", [])]
        require(sorted(listed) == sorted(digests), f"listed: {set(listed) ^ set(digests)} differ")
        for key, digest in digests.items():
            body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            require(hashlib.sha256(body).hexdigest() == digest, f"{key} has other bytes")


def fetch(node, path):
    """A page of a node's admin port; None where it is not there yet."""
    try:
        with urllib.request.urlopen(f"http://{node.address}:{cluster.ADMIN}{path}", timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        require(error.code in (404, 503), f"{path}: {error}")
        return None


def signed(node):
    """Name, and size, of the newest signed checkpoint."""
    note = fetch(node, "/log/checkpoint")
    return (note.splitlines()[0], int(note.splitlines()[1])) if note else (None, 0)


def sweeps(site, what):
    """How many lines about sweeps the metadata nodes wrote."""
    return sum(pathlib.Path(node.errors.name).read_text(errors="replace").count(what) for node in site.metadata)


def export(site, bundles, name, key):
    target = bundles / name
    site.stele_run("evidence", "export", f"s3://{BUCKET}/{key}", "-o", target, "--endpoint", site.gateways[0].s3)
    return target


def judge(verifier, bundle, policy):
    done = subprocess.run([verifier, bundle, "--policy", policy], capture_output=True, text=True, timeout=120)
    require(done.returncode == 0, f"{bundle}: {done.stdout[-3000:]} {done.stderr[-1000:]}")


def refusals(site, url, key, work):
    """What must not be restored is not, and nothing is overwritten."""
    other = work / "other.key"
    site.stele_run("backup", "keygen", "-o", other)
    wrong = site.stele_run("backup", "drill", "--from", url, "--key", other, "--scratch", work / "wrong", ok=False)
    require(wrong.returncode != 0 and "is sealed to" in wrong.stderr, f"another key: {wrong.stderr}")
    again = site.stele_run("backup", "keygen", "-o", key, ok=False)
    require(again.returncode != 0 and "nothing is replaced" in again.stderr, f"keygen over a key: {again.stderr}")
    full = site.stele_run("cluster", "restore", "--from", url, "--key", key, "--data", site.storage[0].data, "--advertise",
                          "127.0.0.1:1", ok=False)
    require(full.returncode != 0 and "not empty" in full.stderr, f"a directory in use: {full.stderr}")
    name = json.loads(site.stele_run("backup", "list", "--from", url, "--json").stdout)[-1]["name"]
    whole = (work / "backups" / name).read_bytes()
    (work / "damaged").mkdir()
    for what, body in (("cut", whole[:-40]), ("flipped", whole[:len(whole) // 2] + b"\x00\x01" + whole[len(whole) // 2 + 2:])):
        (work / "damaged" / "x.stele-backup").write_bytes(body)
        place = f"file://{work / 'damaged' / 'x.stele-backup'}"
        for words in (["verify"], ["verify", "--key", key], ["drill", "--key", key, "--scratch", work / f"scratch-{what}"]):
            done = site.stele_run("backup", words[0], "--from", place, *words[1:], ok=False)
            require(done.returncode != 0 and "use another backup" in done.stderr.lower(), f"{what} {words}: {done.stderr}")
        target = work / f"target-{what}"
        done = site.stele_run("cluster", "restore", "--from", place, "--key", key, "--data", target, "--advertise", "127.0.0.1:1",
                              ok=False)
        require(done.returncode != 0 and not (target / "node.toml").exists(), f"{what}: {done.stderr}")


def before(site, contents, work, url, key):
    """Everything up to the disaster. Digests of the backup, bundles, and where the log stood."""
    s3 = contents.s3
    for n in range(40):
        contents.put(f"object-{n:02}")
    verifier = pathlib.Path(site.stele).with_name("stele-verify")
    wait_until("the log is signed", 60, lambda: signed(site.anchor)[1] >= 40)
    policy = work / "policy-1.txt"
    policy.write_text(fetch(site.anchor, "/log/policy"))
    bundles = work / "bundles"
    bundles.mkdir()
    taken = [export(site, bundles, f"before-{n}", f"object-{n:02}") for n in (1, 2, 3)]
    for bundle in taken:
        judge(verifier, bundle, policy)
    began = time.monotonic()
    made = json.loads(site.stele_run("backup", "now", "--admin", site.admin_file, "--json").stdout)
    seconds = time.monotonic() - began
    site.stele_run("backup", "verify", "--from", url)
    site.stele_run("backup", "verify", "--from", url, "--key", key)
    drilled = json.loads(site.stele_run("backup", "drill", "--from", url, "--key", key, "--scratch", work / "drill", "--json").stdout)
    require(drilled["sound"] and drilled["versions"] == 40, f"the drill: {drilled}")
    return dict(contents.digests), taken, policy, verifier, {"bytes": made["bytes"], "rows": made["rows"], "seconds": round(seconds, 2)}


def after_backup(site, contents, old):
    """What the backup does not know. Sweeps condemn what it deletes, and must not delete it from the drives."""
    s3 = contents.s3
    for n in range(40, 60):
        contents.put(f"object-{n:02}")
    for n in range(0, 10):
        contents.put(f"object-{n:02}")
    for n in range(10, 20):
        s3.delete_object(Bucket=BUCKET, Key=f"object-{n:02}")
        del contents.digests[f"object-{n:02}"]
    runs = sweeps(site, " sweep ")
    # Condemned by one, due at the next after the grace time, and left alone by that and those behind it.
    wait_until("sweeps ran", 120, lambda: sweeps(site, " sweep ") >= runs + 6)
    contents.check(s3, contents.digests)
    require(set(old) != set(contents.digests), "nothing was deleted")


def come_back(site, contents, digests):
    """Storage nodes with their drives, one of them late; then the gateway."""
    require(site.backups().get("comparing"), f"nothing is compared: {site.backups()}")
    site.rejoin(site.storage[:-1])
    off = sweeps(site, "sweep not run")
    wait_until("sweeps are refused", 60, lambda: sweeps(site, "sweep not run") > off)
    require(site.backups()["comparing"], "sweeps go on although a drive is missing")
    site.rejoin(site.storage[-1:])
    began = time.monotonic()
    wait_until("the comparison ends", 120, lambda: site.backups().get("comparing") is False)
    compared = site.backups()["compared"]
    require(compared[1] == 0, f"packs are lost: {compared}")
    site.rejoin(site.gateways)
    contents.s3 = client(site)
    wait_until("the gateway reads", 60, lambda: reads(contents.s3))
    contents.check(contents.s3, digests)
    return {"packs": compared[0], "compared_after_s": round(time.monotonic() - began, 1)}


def reads(s3):
    try:
        s3.list_objects_v2(Bucket=BUCKET, MaxKeys=1)
        return True
    except Exception as error:
        say(f"not yet: {error}")
        return False


def goes_on(site, contents, seed):
    """New objects, a new backup, and sweeps that take what nothing refers to."""
    contents.r = random.Random(seed)
    for n in range(70, 80):
        contents.put(f"object-{n:02}")
    site.stele_run("backup", "now", "--admin", site.admin_file)
    # A backup behind the condemnations is one behind the next fence, and that waits for the gateway's lease to move on.
    runs, fence = sweeps(site, " sweep "), site.status()["fence"]
    wait_until("sweeps go on", 120, lambda: sweeps(site, " sweep ") >= runs + 2)
    wait_until("the fence moves", 120, lambda: site.status()["fence"] > fence)
    site.stele_run("backup", "now", "--admin", site.admin_file)
    deleted = lambda: sum(int(line.split(" deleted=")[1].split()[0]) for node in site.metadata
                          for line in pathlib.Path(node.errors.name).read_text(errors="replace").splitlines() if " deleted=" in line)
    wait_until("sweeps delete what was lost", 120, lambda: deleted() > 0)
    contents.check(contents.s3, contents.digests)


def main():
    args = arguments(__doc__)
    work = args.work.resolve()
    url, key = f"file://{work / 'backups'}", work / "operator.key"
    stele = str(pathlib.Path(args.stele).resolve())
    recipient = json.loads(subprocess.run([stele, "backup", "keygen", "-o", str(key), "--json"], capture_output=True, text=True,
                                          check=True).stdout)["recipient"]
    (work / "backups").mkdir()
    cluster.SETTINGS.update(STELE_BACKUP_URL=url, STELE_BACKUP_RECIPIENT=recipient, STELE_BACKUP_INTERVAL="12h",
                            STELE_GC_INTERVAL="2s", STELE_GC_GRACE="3s", STELE_ANCHOR_INTERVAL="1s",
                            STELE_LOG_LEVEL="info,openraft=error,s3s=off", STELE_LOG_FORMAT="text", NO_COLOR="1")
    site = Site(pathlib.Path(stele), work)
    site.found()
    site.wait_healthy(cluster.READY_SECONDS)
    contents = Contents(client(site), 21)
    contents.s3.create_bucket(Bucket=BUCKET)

    digests, bundles, policy, verifier, figures = before(site, contents, work, url, key)
    refusals(site, url, key, work)
    backed_up = json.loads(site.stele_run("backup", "list", "--from", url, "--json").stdout)[-1]["facts"]
    after_backup(site, contents, digests)
    wait_until("the anchor signs beyond the backup", 60, lambda: signed(site.anchor)[1] > backed_up["log_size"] + 20)
    name, size = signed(site.anchor)
    say(f"the anchor signed size {size} of {name}; the backup has {backed_up['log_size']} entries")

    site.lose_metadata()
    began = time.monotonic()
    told = site.restore(url, key)
    require(told["versions"] == 40 and told["node"] == 1001, f"restored: {told}")
    row = come_back(site, contents, digests)
    say(f"first restore: every object of the backup is back after {time.monotonic() - began:.0f} s; {row}")
    site.rejoin([site.anchor])
    wait_until("the log goes on under another name", 60, lambda: signed(site.anchor)[0] == f"{name}/2")
    require(site.backups()["closed_logs"] == [name], f"closed: {site.backups()}")
    for bundle in bundles:
        judge(verifier, bundle, policy)
    newer = work / "policy-2.txt"
    newer.write_text(fetch(site.anchor, "/log/policy"))
    contents.digests = dict(digests)
    goes_on(site, contents, 22)
    wait_until("new objects are signed for", 60, lambda: signed(site.anchor)[1] > backed_up["log_size"] + 12)
    for name_of, of in (("after-old", "object-05"), ("after-new", "object-75")):
        judge(verifier, export(site, work / "bundles", name_of, of), newer)

    # The second time the anchor signed nothing that the backup does not have: the log goes on.
    site.anchor.terminate()
    contents.r = random.Random(23)
    contents.put("just-before")
    site.stele_run("backup", "now", "--admin", site.admin_file)
    digests = dict(contents.digests)
    contents.put("lost-again")
    site.lose_metadata()
    site.restore(url, key)
    come_back(site, contents, digests)
    signed_size = int(json.loads(site.stele_run("cluster", "status", "--admin", site.admin_file, "--json", ok=False).stdout)["log"]["signed"])
    site.rejoin([site.anchor])
    wait_until("the log goes on", 60, lambda: signed(site.anchor)[1] > signed_size)
    require(signed(site.anchor)[0] == f"{name}/2", f"the log is called {signed(site.anchor)}")
    require(site.backups()["closed_logs"] == [name], f"closed: {site.backups()}")
    judge(verifier, export(site, work / "bundles", "after-second", "just-before"), newer)
    for bundle in bundles:
        judge(verifier, bundle, policy)
    print(json.dumps({"bench": "restore", "backup": figures, **row, "objects": len(digests)}))
    for node in [*site.gateways, site.anchor, *site.storage, *site.metadata]:
        node.terminate()
    say("done")


if __name__ == "__main__":
    main()
