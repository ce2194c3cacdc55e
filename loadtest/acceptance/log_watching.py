#!/usr/bin/env python3
"""`stele log fsck` and `stele log monitor` against logs that are honest, damaged, cut, forked, or shown in two versions.
The forks are real: a store is copied with its keys, and both go on.

    log_watching.py --stele target/debug/stele --work DIR
"""

import contextlib
import http.server
import json
import os
import shutil
import subprocess
import threading
import urllib.error
import urllib.request

from store import BUCKET, Store, arguments, require, say, wait_until

SETTINGS = {"anchor_interval": "1s"}


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        require(error.code == 404, f"{url}: {error.code}")
        return None


def size_of(url):
    note = fetch(f"{url}/checkpoint")
    return int(note.split(b"\n")[1]) if note else 0


def path_of(kind, index, width):
    number = f"{index % 1000:03}"
    while index >= 1000:
        index //= 1000
        number = f"x{index % 1000:03}/{number}"
    return f"tile/{kind}/{number}" + (f".p/{width}" if width < 256 else "")


def mirrored(url):
    """Everything that a log serves at its newest checkpoint, by path."""
    files = {name: fetch(f"{url}/{name}") for name in ("checkpoint", "policy")}
    count = int(files["checkpoint"].split(b"\n")[1])
    for kind in ("entries", *range(8)):
        hashes = count if kind == "entries" else count >> (8 * kind)
        for index in range((hashes + 255) // 256):
            path = path_of(kind, index, min(256, hashes - 256 * index))
            files[path] = fetch(f"{url}/{path}")
            require(files[path], f"{path} is not served")
    return files


@contextlib.contextmanager
def served(files):
    """An address that serves these files, which may change while it does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = files.get(self.path.removeprefix("/log/"))
            self.send_response(200 if content is not None else 404)
            self.send_header("content-length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/log"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Commands:
    def __init__(self, stele, folder):
        self.stele, self.folder = stele, folder

    def log(self, *words):
        environment = dict(os.environ, RUST_BACKTRACE="0")
        done = subprocess.run([self.stele, "log", *map(str, words)], capture_output=True, text=True, env=environment, timeout=120)
        return done.returncode, done.stdout + done.stderr

    def fsck(self, url, *words):
        return self.log("fsck", "--source", url, *words)

    def monitor(self, state, *urls, policy=None):
        words = [word for url in urls for word in ("--source", url)] + (["--policy", policy] if policy else [])
        return self.log("monitor", "--state", self.folder / state, *words)

    def fine(self, state, *urls, policy=None):
        code, words = self.monitor(state, *urls, policy=policy)
        require(code == 0, f"monitor of {urls}: {code}\n{words}")

    def forked(self, state, size, *urls):
        code, words = self.monitor(state, *urls)
        require(code == 1 and "FORKED" in words, f"a fork was not found in {urls}: {code}\n{words}")
        evidence = (self.folder / f"{state}.fork-{size}").read_bytes()
        require(evidence.split(b"\n")[1] == b"%d" % size, "the evidence is of another size")


def put(store, names):
    s3 = store.client()
    for name in names:
        s3.put_object(Bucket=BUCKET, Key=name, Body=name.encode())


def until_signed(store, size):
    wait_until(f"a checkpoint of size {size}", 30, lambda: size_of(f"{store.admin}/log") == size)
    return f"{store.admin}/log"


def settled(store):
    """The size once a checkpoint covers all entries; the first is followed by an entry about the keys that signed it."""
    size = lambda: size_of(f"{store.admin}/log")
    wait_until("a checkpoint of all entries", 30, lambda: size() > 0 and size() == store.status()["log"]["size"])
    return size()


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def damages(commands, files):
    """Each is found, and named."""
    for path in [path for path in files if path.startswith("tile/")]:
        whole = files[path]
        for damage in (flipped(whole, len(whole) - 1), flipped(whole, 40 % len(whole)), whole[:-32], None):
            broken = {**files, path: damage}
            with served(broken) as url:
                code, words = commands.fsck(url)
            # Entries that can't be read stop it; whatever else differs is listed.
            named = path in words or "entries" in path or "tile" in words
            require(code == 1 and named, f"{path} was damaged: {code}\n{words}")
    for name in ("checkpoint", "policy"):
        with served({**files, name: flipped(files[name], 5)}) as url:
            code, words = commands.fsck(url)
        require(code != 0, f"{name} was damaged: {words}")
    say(f"fsck names what was damaged in each of {len(files)} files")


def main():
    args = arguments(__doc__)
    commands = Commands(args.stele, args.work)
    data = args.work / "data"
    store = Store(args.stele, data, **SETTINGS)
    store.client().create_bucket(Bucket=BUCKET)
    # What founded the store, its bucket and its keys are entries, too.
    begun = settled(store)
    put(store, [f"k{n}" for n in range(600 - begun)])
    url = until_signed(store, 600)
    early = mirrored(url)
    policy = args.work / "policy.txt"
    policy.write_bytes(early["policy"])

    code, words = commands.fsck(url, "--policy", policy, "--json")
    found = json.loads(words)
    require(code == 0 and found["size"] == 600 and found["differences"] == 0, f"fsck: {code} {words}")
    # Two full tiles and an open one of leaves, one open tile above.
    require(found["tiles"] == 4, f"{found['tiles']} tiles were compared")
    damages(commands, early)

    # An honest log, seen early and late, from a source that lags, and once more.
    commands.fine("honest", url, policy=policy)
    put(store, [f"more{n}" for n in range(100)])
    until_signed(store, 700)
    with served(early) as lagging:
        commands.fine("honest", url, lagging, policy=policy)
        commands.fine("other-way-round", lagging, url, policy=policy)
        commands.fine("other-way-round", lagging)
    lines = [json.loads(line) for line in (args.work / "honest").read_text().splitlines()]
    require([line["size"] for line in lines] == [600, 700], "what the monitor remembers")
    # A state that was cut in its last line is as it was before that line.
    whole = (args.work / "honest").read_bytes()
    (args.work / "honest").write_bytes(whole[:-20])
    commands.fine("honest", url, policy=policy)
    require((args.work / "honest").read_bytes() == whole, "a torn line was not repaired")

    # Tiles that are not those of the checkpoint, or fewer than it says.
    late = mirrored(url)
    short = {**early, "checkpoint": late["checkpoint"]}
    # Of the tiles that lead from 600 to 700 entries: the last one of leaves.
    level = path_of(0, 2, 188)
    wrong = {**late, level: flipped(late[level], 77)}
    for broken in (short, wrong):
        with served(broken) as lying:
            (args.work / "lying").write_bytes((args.work / "other-way-round").read_bytes().split(b"\n")[0] + b"\n")
            code, words = commands.monitor("lying", lying)
            require(code == 1 and "!" in words and "FORKED" not in words, f"a lying mirror: {code}\n{words}")
    say("a log that lags is fine; tiles of another tree are not")

    # Two stores with the same keys and the same past go on by themselves: split views.
    store.stop()
    shutil.copytree(data, args.work / "twin")
    first = Store(args.stele, data, **SETTINGS)
    second = Store(args.stele, args.work / "twin", **SETTINGS)
    put(first, ["one"])
    put(second, ["another"])
    here, there = until_signed(first, 701), until_signed(second, 701)
    require(fetch(f"{here}/checkpoint") != fetch(f"{there}/checkpoint"), "the twins signed the same")
    for auditor, view in (("auditor-1", here), ("auditor-2", there)):
        shutil.copy2(args.work / "honest", args.work / auditor)
        commands.fine(auditor, view, policy=policy)
    commands.forked("auditor-1", 701, here, there)
    commands.forked("auditor-2", 701, there, here)
    # Different sizes: only the tiles can tell.
    put(second, [f"alone{n}" for n in range(300)])
    until_signed(second, 1001)
    commands.forked("auditor-1", 1001, here, there)
    say("two views of one log are found by either auditor, also where their sizes differ")

    # Another log under a known address, and keys that nobody knows.
    other = Store(args.stele, args.work / "other", **SETTINGS)
    other.client().create_bucket(Bucket=BUCKET)
    put(other, ["k"])
    settled(other)
    elsewhere = f"{other.admin}/log"
    code, words = commands.monitor("honest", elsewhere)
    require(code == 1 and "serves the log" in words, f"another log: {code}\n{words}")
    for command in (commands.fsck(elsewhere, "--policy", policy), commands.monitor("honest", elsewhere, policy=policy)):
        require(command[0] != 0 and "policy lists no log" in command[1], f"an unknown key: {command}")
    for running in (first, second, other):
        running.stop()
    say("another log and unknown keys are refused")


if __name__ == "__main__":
    main()
