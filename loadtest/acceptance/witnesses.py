#!/usr/bin/env python3
"""Checkpoints that witnesses cosign and an authority stamps: three `stele witness` processes of which two are needed, and a
time-stamping authority made of `openssl ts`. What a bundle then shows, what happens when witnesses go, and what they say to a
log that was forked.

    witnesses.py --stele target/debug/stele --work DIR
"""

import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

from evidence_bundles import Auditor, Exporter, VERIFIED, policy_of, states
from store import BUCKET, Store, arguments, require, say, wait_until

TSA_CONFIG = """[tsa]
default_tsa = it
[it]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
certs = {folder}/root.pem
default_policy = 1.2.3.4.1
digests = sha256
signer_digest = sha256
accuracy = secs:1
ordering = no
tsa_name = no
"""


class Witness:
    """A running witness. It keeps its address and its directory over restarts."""

    def __init__(self, stele, folder, number, logs):
        self.stele, self.data, self.logs = stele, folder / f"witness-{number}", logs
        self.name, self.address = f"witness.example/{number}", "127.0.0.1:0"
        self.start()

    def start(self):
        words = ["--data", self.data, "--addr", self.address, "--name", self.name, "--logs", self.logs, "--json"]
        self.process = subprocess.Popen([self.stele, "witness", *map(str, words)], stdout=subprocess.PIPE, text=True)
        ready = json.loads(self.process.stdout.readline())
        self.url = ready["witness"]
        self.address = self.url.removeprefix("http://")

    def keys(self):
        return (self.data / "verifier-keys").read_text().splitlines()

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Authority:
    """A time-stamping authority that openssl plays."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        (folder / "tsa.cnf").write_text(TSA_CONFIG.format(folder=folder))
        (folder / "serial").write_text("01\n")
        (folder / "usage").write_text("extendedKeyUsage=critical,timeStamping\n")
        run = lambda *words: subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
        run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=root", "-days", "30")
        run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=tsa")
        signing = ["-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "30", "-extfile", "usage"]
        run("x509", "-req", "-in", "tsa.csr", "-out", "tsa.pem", *signing)
        authority = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                query = self.rfile.read(int(self.headers["content-length"]))
                answer = authority.answer(query)
                self.send_response(200)
                self.send_header("content-type", "application/timestamp-reply")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def answer(self, query):
        (self.folder / "query").write_bytes(query)
        words = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply"]
        subprocess.run(words, cwd=self.folder, check=True, capture_output=True)
        return (self.folder / "reply").read_bytes()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def size_of(store):
    try:
        with urllib.request.urlopen(f"{store.admin}/log/checkpoint", timeout=10) as answer:
            return int(answer.read().split(b"\n")[1])
    except urllib.error.HTTPError as error:
        require(error.code == 404, f"/log/checkpoint: {error.code}")
        return 0


def put(store, name):
    answer = store.client().put_object(Bucket=BUCKET, Key=name, Body=name.encode())
    return int(answer["ResponseMetadata"]["HTTPHeaders"]["x-stele-log"][2:])


def lines_of(witnesses):
    """The operator's policy: two of them, each with both of its keys."""
    lines = []
    for number, witness in enumerate(witnesses):
        names = [f"w{number}-{kind}" for kind in range(2)]
        lines += [f"witness {name} {key} {witness.url}" for name, key in zip(names, witness.keys())]
        lines.append(f"group w{number} all {' '.join(names)}")
    members = " ".join(f"w{number}" for number in range(len(witnesses)))
    return "\n".join([*lines, f"group enough 2 {members}", "quorum enough"]) + "\n"


def main():
    args = arguments(__doc__)
    args.work = args.work.resolve()
    data, settings = args.work / "data", {"anchor_interval": "1s", "log_level": "warn,stele=info"}
    # At first nobody cosigns, so that there is something to tell the witnesses.
    store = Store(args.stele, data, **settings)
    store.client().create_bucket(Bucket=BUCKET)
    last = put(store, "alone")
    wait_until("a checkpoint", 30, lambda: size_of(store) > last)
    logs = args.work / "logs.txt"
    logs.write_bytes(policy_of(store))
    store.stop()

    witnesses = [Witness(args.stele, args.work, number, logs) for number in range(3)]
    authority = Authority(args.work / "tsa")
    policy = args.work / "policy.txt"
    policy.write_text(lines_of(witnesses))
    settings |= {"anchor_policy": str(policy), "anchor_tsa": authority.url, "anchor_tsa_interval": "1s"}
    settings |= {"anchor_tsa_roots": str(authority.folder / "root.pem")}
    store = Store(args.stele, data, **settings)
    last = put(store, "seen")
    wait_until("a cosigned checkpoint", 60, lambda: size_of(store) > last)

    exporter = Exporter(args.stele, store, args.work)
    auditor = Auditor(pathlib.Path(args.stele).with_name("stele-verify"), args.work / "auditor")
    published = policy_of(store).decode()
    require(published.endswith(policy.read_text()) and published.startswith("log "), published)
    (auditor.folder / "policy.txt").write_text(published)
    shutil.copy2(authority.folder / "root.pem", auditor.folder / "root.pem")
    count = iter(range(1000))
    exported = lambda: exporter.export(f"bundle-{next(count)}", f"s3://{BUCKET}/seen")
    wait_until("a time stamp", 60, lambda: '"timestamps"' in (exported() / "stele-bundle.json").read_text())
    bundle = auditor.take(exported())
    report = auditor.judge(bundle, "--tsa-root", "root.pem")
    for question in ("time", "non-equivocation"):
        require(states(report, question) == [VERIFIED], f"{question}: {states(report, question)}")
    require(VERIFIED in states(report, "timestamp"), f"time stamp: {states(report, 'timestamp')}")
    # Whoever trusts other witnesses sees none of these.
    other = published.replace("witness.example", "elsewhere.example")
    (auditor.folder / "other.txt").write_text(other)
    done = auditor.run(bundle.name, "--policy", "other.txt")
    require(done.returncode != 0, f"other witnesses: {done.stdout}")
    say("two of three witnesses and a time stamp: time and one history are verified offline")

    # One away is fine; with two away nothing is published, and nothing is lost.
    witnesses[0].kill()
    last = put(store, "one-away")
    wait_until("a checkpoint of two witnesses", 60, lambda: size_of(store) > last)
    witnesses[1].kill()
    before = size_of(store)
    last = put(store, "two-away")
    time.sleep(5)
    require(size_of(store) == before, "a checkpoint without its quorum was published")
    require("waits for its witnesses" in store.words(), f"nothing says why: {store.words()}")
    witnesses[1].start()
    wait_until("a checkpoint again", 60, lambda: size_of(store) > last)
    witnesses[0].start()
    say("a witness may go and come back; without a quorum nothing is published")

    # The store is killed while it waits, and the anchor too: what was committed is cosigned and published.
    os.kill(store.pid, signal.SIGKILL)
    store.process.wait()
    store = Store(args.stele, data, **settings)
    last = put(store, "after-kill")
    wait_until("a checkpoint after kill -9", 60, lambda: size_of(store) > last)
    store.stop()

    # A copy of the store with its keys goes on beside it: the witnesses cosign one of the two.
    shutil.copytree(data, args.work / "twin")
    store = Store(args.stele, data, **settings)
    last = put(store, "true")
    wait_until("a checkpoint of the first", 60, lambda: size_of(store) > last)
    size = size_of(store)
    twin = Store(args.stele, args.work / "twin", **settings)
    put(twin, "false")
    time.sleep(5)
    require(size_of(twin) < size, "a second history was cosigned")
    require("another history" in twin.words(), f"the twin was not told: {twin.words()}")
    last = put(store, "more")
    wait_until("the first goes on", 60, lambda: size_of(store) > last)
    for running in (store, twin):
        running.stop()
    for witness in witnesses:
        witness.process.terminate()
        require(witness.process.wait(timeout=30) == 0, "a witness did not stop well")
    authority.stop()
    say("of two histories with the same keys the witnesses cosign one, and tell the other")


if __name__ == "__main__":
    main()
