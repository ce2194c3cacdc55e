#!/usr/bin/env python3
"""The evidence log as a stranger sees it: reads checkpoint and tiles from the admin port and believes nothing. Checks
signatures and hashes with code that is not Stele's (PyCryptodome, which comes with the client minio), over restarts,
kill -9 and a lost memory of the anchor.

    evidence_log.py --stele target/debug/stele --work DIR
"""

import base64
import concurrent.futures
import hashlib
import os
import pathlib
import signal
import time
import urllib.error
import urllib.request

from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

from store import BUCKET, Store, arguments, require, say, wait_until

ED25519, ML_DSA_44 = 0x01, 0x06
INTERVAL = 1


def fetch(store, path):
    with urllib.request.urlopen(f"{store.admin}/log/{path}", timeout=10) as answer:
        return answer.read()


def checkpoint(store):
    """The note, or None before the first one."""
    try:
        return fetch(store, "checkpoint").decode()
    except urllib.error.HTTPError as error:
        require(error.code == 404, f"/log/checkpoint answered {error.code}")
        return None


def verifier_keys(data):
    """name -> [(key id, type, public key)], ids computed here."""
    keys = []
    for line in (data / "anchor/verifier-keys").read_text().splitlines():
        name, key_id, rest = line.split("+", 2)
        raw = base64.b64decode(rest, validate=True)
        computed = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
        require(computed.hex() == key_id, f"{line} has another id than {computed.hex()}")
        keys.append((name, computed, raw[0], raw[1:]))
    return keys


def verified(note, keys):
    """Origin, size and root of a note that both keys of the log signed; Ed25519 is checked here."""
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    origin, size, root = text.split("\n")[:3]
    require(text == f"{origin}\n{size}\n{root}\n" and str(int(size)) == size, f"checkpoint {text!r}")
    lines = {}
    for line in signatures.splitlines():
        dash, name, blob = line.split(" ")
        require(dash == "\u2014" and name == origin, f"signature line {line[:80]!r}")
        raw = base64.b64decode(blob, validate=True)
        lines[raw[:4]] = raw[4:]
    kinds = set()
    for name, key_id, kind, public in keys:
        require(name == origin, f"a key of {name!r} for {origin!r}")
        blob = lines[key_id]
        kinds.add(kind)
        if kind == ED25519:
            eddsa.new(eddsa.import_public_key(public), "rfc8032").verify(text.encode(), blob)
        else:
            require(kind == ML_DSA_44 and len(public) == 1312 and len(blob) == 8 + 2420, f"type {kind}")
    require(kinds == {ED25519, ML_DSA_44} and len(lines) == 2, f"signed by {kinds}, {len(lines)} lines")
    return origin, int(size), base64.b64decode(root, validate=True)


def path_of(kind, index, width):
    number = f"{index % 1000:03}"
    while index >= 1000:
        index //= 1000
        number = f"x{index % 1000:03}/{number}"
    return f"tile/{kind}/{number}" + (f".p/{width}" if width < 256 else "")


def tiles(store, kind, count, each):
    """All hashes of a level, or all entries, of a log with `count` of them."""
    found = []
    for index in range((count + 255) // 256):
        width = min(256, count - index * 256)
        raw = fetch(store, path_of(kind, index, width))
        require(len(raw) == width * each, f"{path_of(kind, index, width)} has {len(raw)} bytes")
        found += [raw[at : at + each] for at in range(0, len(raw), each)]
    return found


def root_of(hashes):
    """RFC 6962, section 2.1, of leaf hashes."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << ((len(hashes) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + root_of(hashes[:split]) + root_of(hashes[split:])).digest()


def check(store, keys, size, root):
    """Recomputes root and every tile from the entries. Returns the leaf hashes."""
    entries = tiles(store, "entries", size, 34)
    require(all(entry[:2] == b"\x00\x20" for entry in entries), "an entry has another length")
    level = leaves = [hashlib.sha256(b"\x00" + entry[2:]).digest() for entry in entries]
    require(root_of(leaves) == root, f"the entries give another root at size {size}")
    number = 0
    while level:
        require(tiles(store, number, len(level), 32) == level, f"tiles of level {number} are not what their entries give")
        level = [root_of(level[at : at + 256]) for at in range(0, len(level) - len(level) % 256, 256)]
        number += 1
    return leaves


def put(s3, names):
    """Indexes of the entries that the answers name."""
    def one(name):
        answer = s3.put_object(Bucket=BUCKET, Key=name, Body=name.encode())
        return int(answer["ResponseMetadata"]["HTTPHeaders"]["x-stele-log"].removeprefix("0/"))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, names))


def signed(store, keys, least):
    """The newest checkpoint once it covers `least` entries."""
    newest = lambda: verified(checkpoint(store), keys) if checkpoint(store) else ("", 0, b"")
    wait_until(f"a checkpoint of {least} entries", 30, lambda: newest()[1] >= least)
    return newest()


def settled(store, keys):
    """The checkpoint of all there is: the first one is followed by an entry about the keys that signed it."""
    covered = lambda: verified(checkpoint(store), keys)[1] if checkpoint(store) else 0
    wait_until("a checkpoint of all entries", 30, lambda: covered() == store.status()["log"]["size"])
    return verified(checkpoint(store), keys)


def main():
    args = arguments(__doc__)
    data = args.work / "data"
    settings = {"anchor_interval": f"{INTERVAL}s", "log_level": "warn,stele=info"}
    store = Store(args.stele, data, **settings)
    s3 = store.client()
    s3.create_bucket(Bucket=BUCKET)
    indexes = put(s3, [f"first/{n}" for n in range(700)])
    require(len(set(indexes)) == 700, "two answers name one entry")
    keys = verifier_keys(data)
    origin, size, root = settled(store, keys)
    require(size > max(indexes), f"a log of {size} entries lacks what answers named")
    old = check(store, keys, size, root)
    for path in ("tile/0/999", "tile/0/000.p/0", "tile/0/000.p/256", "tile/../status", "tile/64/000", "tile/0/00", "", "x"):
        try:
            fetch(store, path)
            require(False, f"/log/{path} is answered")
        except urllib.error.HTTPError as error:
            require(error.code == 404, f"/log/{path}: {error.code}")
    say(f"{size} entries of {origin}: signatures, root and every tile hold")

    # Nothing is written, nothing is signed.
    before = checkpoint(store)
    time.sleep(2.5 * INTERVAL)
    require(checkpoint(store) == before, "another checkpoint of the same log")
    for delete in range(20):
        s3.delete_object(Bucket=BUCKET, Key=f"first/{delete}")
    first = size
    _, size, root = signed(store, keys, first + 20)
    require(size == first + 20 and check(store, keys, size, root)[:first] == old, "deletions changed what was logged")
    store.stop()

    store = Store(args.stele, data, **settings)
    require(verifier_keys(data) == keys, "other keys after a restart")
    put(store.client(), [f"second/{n}" for n in range(50)])
    os.kill(store.pid, signal.SIGKILL)
    store.process.wait()
    store = Store(args.stele, data, **settings)
    put(store.client(), ["third"])
    _, size, root = signed(store, keys, size + 51)
    leaves = check(store, keys, size, root)
    require(leaves[:first] == old, "the log does not extend what was signed")
    say(f"{size} entries after a restart and kill -9 extend what was signed")
    store.stop()

    # Without its memory the anchor signs nothing, until it is told to.
    (data / "anchor/signed").unlink()
    store = Store(args.stele, data, **settings)
    put(store.client(), ["fourth"])
    time.sleep(3 * INTERVAL)
    require(verified(checkpoint(store), keys)[1] == size, "an anchor without memory signed")
    require("STELE_ANCHOR_ADOPT=true" in store.words(), f"nothing says what to do: {store.words()}")
    store.stop()
    store = Store(args.stele, data, anchor_adopt="true", **settings)
    _, newest, root = signed(store, keys, size + 1)
    require(check(store, keys, newest, root)[:size] == leaves[:size], "the log does not extend what was signed")
    store.stop()
    say("a lost memory stops the signatures, and can be adopted")


if __name__ == "__main__":
    main()
