#!/usr/bin/env python3
"""Checkpoints on chains, with a real Ethereum node (anvil) and the embedded ledger: the contract is deployed, anchors are
made while the store is killed again and again, the node goes away and comes back, a chain is added later. What stands on the
chain is read from the node, not from Stele; bundles are judged offline by the block hash that the node shows.

    chains.py --stele target/debug/stele --work DIR --anvil PATH
"""

import atexit
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import time
import urllib.request

from evidence_bundles import Auditor, Exporter, VERIFIED, policy_of, states
from store import BUCKET, Store, arguments, require, say, wait_until

CHAIN_ID = 31337
# The first account that every anvil has, with coins.
KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
TOPIC = "Anchored(bytes32,uint64,uint64,bytes32,address)"


class Node:
    """An Ethereum node on loopback. Its chain outlives it in a file."""

    def __init__(self, anvil, state):
        self.anvil, self.state = anvil, state
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        atexit.register(self.kill)
        self.start()

    def start(self):
        words = ["--host", "127.0.0.1", "--port", str(self.port), "--state", str(self.state), "--chain-id", str(CHAIN_ID)]
        # Blocks come by themselves, and are final two slots later.
        words += ["--block-time", "1", "--slots-in-an-epoch", "1", "--silent"]
        self.process = subprocess.Popen([self.anvil, *words], stdin=subprocess.DEVNULL)
        wait_until("anvil answers", 60, self.answers)

    def answers(self):
        try:
            return self.ask("eth_chainId") == hex(CHAIN_ID)
        except OSError:
            return False

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def ask(self, method, *params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, data=body, headers={"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = json.loads(answer.read())
        require("error" not in found, f"{method}: {found}")
        return found["result"]

    def anchors(self, contract):
        """(previous size, size, root, block hash) of every event of the contract, in the chain's order."""
        found = []
        for log in self.ask("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": contract}):
            data = bytes.fromhex(log["data"][2:])
            found.append((int.from_bytes(data[:32]), int.from_bytes(data[32:64]), data[64:96].hex(), log["blockHash"]))
        return found


def configuration(path, node, contract, key, chains=("ledger", "evm")):
    text = "[anchor]\ninterval = \"1s\"\n"
    if "ledger" in chains:
        text += '[[anchor.chains]]\nname = "ledger"\nkind = "ledger"\ninterval = "1s"\n'
    if "evm" in chains:
        text += f"""[[anchor.chains]]
name = "testnet"
kind = "evm"
interval = "1s"
endpoints = ["{node.url}"]
key_file = "{key}"
chain_id = {CHAIN_ID}
contract = "{contract}"
finality = "finalized"
"""
    path.write_text(text)


def in_order(anchors):
    """Every anchor begins where the one before ended: none twice, none missing."""
    previous = 0
    for before, size, _, _ in anchors:
        require(before == previous and size > before, f"an anchor from {before} to {size} behind {previous}")
        previous = size
    return previous


def put(store, count, tag):
    s3 = store.client()
    for n in range(count):
        s3.put_object(Bucket=BUCKET, Key=f"{tag}-{n}", Body=b"x")
    return int(s3.head_object(Bucket=BUCKET, Key=f"{tag}-{count - 1}")["ResponseMetadata"]["HTTPHeaders"]["x-stele-log"][2:])


def main():
    args = arguments(__doc__, ("--anvil", pathlib.Path, None))
    node = Node(args.anvil.resolve(), args.work / "anvil.json")
    key = (args.work / "account.key").resolve()
    key.write_text(KEY + "\n")
    environment = dict(os.environ, RUST_BACKTRACE="0")
    deploy = [args.stele, "chain", "deploy", "--endpoint", node.url, "--key-file", str(key), "--json", "--chain-id"]
    key.chmod(0o644)
    done = subprocess.run([*deploy, str(CHAIN_ID)], capture_output=True, text=True, env=environment)
    require(done.returncode != 0 and "account.key" in done.stderr, f"a key that others can read: {done.stderr}")
    key.chmod(0o600)
    done = subprocess.run([*deploy, "1"], capture_output=True, text=True, env=environment)
    require(done.returncode != 0 and "31337" in done.stderr, f"another chain: {done.stderr}")
    done = subprocess.run([*deploy, str(CHAIN_ID)], capture_output=True, text=True, env=environment)
    require(done.returncode == 0, f"deploy: {done.stderr}")
    contract = json.loads(done.stdout)["contract"]

    config = args.work / "stele.toml"
    settings = {"config": str(config), "log_level": "warn,stele=info"}
    data = args.work / "data"
    configuration(config, node, contract, key, chains=("ledger",))
    store = Store(args.stele, data, **settings)
    store.client().create_bucket(Bucket=BUCKET)
    put(store, 5, "before")
    wait_until("a block of the ledger", 30, lambda: (data / "anchor/ledger").stat().st_size >= 208)
    require(node.anchors(contract) == [], "an anchor on a chain that is not configured")
    store.stop()

    # A chain that is added later begins with the newest checkpoint.
    configuration(config, node, contract, key)
    store = Store(args.stele, data, **settings)
    last = put(store, 3, "later")
    wait_until("an anchor", 60, lambda: node.anchors(contract) and node.anchors(contract)[-1][1] > last)
    say(f"a chain that was added later has {node.anchors(contract)[-1][1]} entries")

    # Killed at any moment, again and again, while entries come.
    rng = random.Random(8)
    for turn in range(12):
        last = put(store, 2, f"turn-{turn}")
        time.sleep(rng.uniform(0, 3))
        os.kill(store.pid, signal.SIGKILL)
        store.process.wait()
        store = Store(args.stele, data, **settings)
    last = put(store, 1, "after")
    wait_until("all is anchored", 90, lambda: node.anchors(contract)[-1][1] > last)
    count = len(node.anchors(contract))
    in_order(node.anchors(contract))
    require(count >= 3, f"{count} anchors")
    say(f"{count} anchors over 12 kill -9: none twice, none missing")

    # The node goes away; writes don't care, and the newest checkpoint follows when it is back.
    node.stop()
    last = put(store, 3, "alone")
    time.sleep(3)
    node.start()
    wait_until("the backlog is anchored", 90, lambda: node.anchors(contract)[-1][1] > last)
    in_order(node.anchors(contract))

    # What an auditor makes of it. The lines come from the operator, the block's hash from the node.
    exporter = Exporter(args.stele, store, args.work)
    auditor = Auditor(pathlib.Path(args.stele).with_name("stele-verify"), args.work / "auditor")
    (auditor.folder / "policy.txt").write_bytes(policy_of(store))
    exported = lambda: exporter.export(f"bundle-{time.monotonic_ns()}", f"s3://{BUCKET}/alone-0")
    wait_until("the proof is kept", 60, lambda: "testnet" in (exported() / "stele-bundle.json").read_text())
    bundle = auditor.take(exported())
    contents = json.loads((bundle / "stele-bundle.json").read_text())
    kinds = {found["chain"] for found in contents["anchors"]}
    require(kinds == {"evm", "ledger"}, f"the bundle has anchors on {kinds}")
    lines = (data / "anchor/chains").read_text()
    require(len(lines.splitlines()) == 2, lines)
    (auditor.folder / "chains").write_text(lines)
    report = auditor.judge(bundle, "--chains", "chains")
    require(states(report, "time") == ["asserted by the operator"], f"without a block hash: {states(report, 'time')}")
    size = next(found["size"] for found in contents["anchors"] if found["chain"] == "evm")
    hashes = [block for _, anchored, _, block in node.anchors(contract) if anchored == size]
    looked_up = "".join(f"{line} {hashes[0]}\n" if line.startswith("evm") else f"{line}\n" for line in lines.splitlines())
    (auditor.folder / "chains").write_text(looked_up)
    report = auditor.judge(bundle, "--chains", "chains")
    for question in ("time", "non-equivocation"):
        require(states(report, question) == [VERIFIED], f"{question}: {states(report, question)}")
    wrong = looked_up.replace(hashes[0], "0x" + "11" * 32)
    (auditor.folder / "chains").write_text(wrong)
    report = auditor.judge(bundle, "--chains", "chains")
    require(states(report, "time") != [VERIFIED], "a block hash that nobody has")
    other = looked_up.replace(contract[2:].lower(), "22" * 20).replace(contract[2:], "22" * 20)
    (auditor.folder / "chains").write_text(other)
    done = auditor.run(bundle.name, "--policy", "policy.txt", "--chains", "chains")
    require(done.returncode == 1, f"another contract: {done.returncode}\n{done.stdout}")
    store.stop()
    node.stop()
    say("bundles carry the anchors, and an auditor who looks up the block has time and one history")


if __name__ == "__main__":
    main()
