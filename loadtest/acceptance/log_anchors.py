#!/usr/bin/env python3
"""`stele log monitor` over anchored roots: a real Ethereum node (anvil), the embedded ledger and bundles show the history
that the log shows, or another one. The forged anchor is sent to the contract by the log's own account; the forked
ledger and bundle are of a store that was copied with its keys.

    log_anchors.py --stele target/debug/stele --work DIR --anvil PATH
"""

import contextlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading
import urllib.request

from chains import CHAIN_ID, KEY, Node, configuration
from evidence_bundles import Exporter, policy_of
from log_watching import Commands, put, settled
from store import BUCKET, Store, arguments, require, say, wait_until


class Watcher(Commands):
    """The monitor with all kinds of sources."""

    def look(self, state, url, *words):
        return self.log("monitor", "--source", url, "--state", self.folder / state, *words)

    def fine(self, state, url, *words):
        code, text = self.look(state, url, *words)
        require(code == 0, f"monitor {words}: {code}\n{text}")
        return text

    def unsure(self, state, url, *words, says):
        """Nothing is shouted, and nothing is called fine."""
        code, text = self.look(state, url, *words)
        require(code == 1 and says in text and "!!!" not in text, f"monitor {words}: {code}, not {says!r}\n{text}")

    def shouts(self, state, url, *words, says="FORKED"):
        code, text = self.look(state, url, *words)
        require(code == 1 and says in text, f"monitor {words}: {code}, not {says!r}\n{text}")
        return text

    def lines(self, state):
        return [json.loads(line) for line in (self.folder / state).read_text().splitlines()]

    def anchors(self, state, kind):
        return [line for line in self.lines(state) if line.get("anchor", {}).get("chain", "").startswith(kind)]


@contextlib.contextmanager
def lying(node, forge):
    """A provider that changes the node's answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            question = self.rfile.read(int(self.headers["content-length"]))
            request = urllib.request.Request(node.url, data=question, headers={"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                found = json.loads(answer.read())
            forge(json.loads(question)["method"], found)
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def deployed(stele, node, key):
    words = [stele, "chain", "deploy", "--endpoint", node.url, "--key-file", str(key), "--json", "--chain-id", str(CHAIN_ID)]
    done = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ, RUST_BACKTRACE="0"))
    require(done.returncode == 0, f"deploy: {done.stderr}")
    return json.loads(done.stdout)["contract"]


def final(node):
    return int(node.ask("eth_getBlockByNumber", "finalized", False)["number"], 16)


def forged_anchor(node, contract, previous, size):
    """The account anchors a root that the log never had."""
    log = node.ask("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": contract})[-1]
    genuine = node.ask("eth_getTransactionByHash", log["transactionHash"])
    call = genuine["input"][: 2 + 8 + 64] + f"{previous:064x}{size:064x}" + "66" * 32
    id = node.ask("eth_sendTransaction", {"from": genuine["from"], "to": contract, "data": call, "gas": hex(200_000)})
    receipt = lambda: node.ask("eth_getTransactionReceipt", id)
    wait_until("the forged anchor is final", 60, lambda: receipt() and final(node) >= int(receipt()["blockNumber"], 16))
    require(receipt()["status"] == "0x1", f"the forged anchor was reverted: {receipt()}")


def blocks(data):
    """Sizes and times of the ledger's blocks."""
    content = (data / "anchor/ledger").read_bytes()
    return [int.from_bytes(content[at + 104 : at + 112], "little") for at in range(0, len(content) - 207, 208)]


def main():
    args = arguments(__doc__, ("--anvil", pathlib.Path, None))
    watcher = Watcher(args.stele, args.work)
    node = Node(args.anvil.resolve(), args.work / "anvil.json")
    key = (args.work / "account.key").resolve()
    key.write_text(KEY + "\n")
    key.chmod(0o600)
    contract = deployed(args.stele, node, key)
    config, data = args.work / "stele.toml", args.work / "data"
    configuration(config, node, contract, key)
    settings = {"config": str(config)}
    store = Store(args.stele, data, **settings)
    store.client().create_bucket(Bucket=BUCKET)
    # Several anchors at least, with entries in between.
    for turn in range(3):
        count = len(node.anchors(contract))
        put(store, [f"turn-{turn}-{n}" for n in range(30)])
        wait_until("another anchor", 60, lambda: len(node.anchors(contract)) > count)
    size = settled(store)
    wait_until("all is anchored", 60, lambda: node.anchors(contract)[-1][1] == size and blocks(data)[-1] == size)
    url = f"{store.admin}/log"
    policy, chains = args.work / "policy.txt", args.work / "chains"
    policy.write_bytes(policy_of(store))
    chains.write_text((data / "anchor/chains").read_text())
    exporter = Exporter(args.stele, store, args.work)
    exported = lambda: exporter.export("bundle", f"s3://{BUCKET}/turn-0-0")

    def with_anchors():
        shutil.rmtree(args.work / "bundle", ignore_errors=True)
        return len(json.loads((exported() / "stele-bundle.json").read_text()).get("anchors", [])) == 2

    wait_until("the proofs are kept", 60, with_anchors)
    trusting = ["--policy", policy, "--chains", chains]
    on_chain = [*trusting, "--chain-rpc", f"testnet={node.url}"]
    on_ledger = [*trusting, "--ledger", f"ledger={data / 'anchor/ledger'}"]
    everything = [*on_chain, "--ledger", f"ledger={data / 'anchor/ledger'}", "--bundle", args.work / "bundle"]

    newest = int(node.ask("eth_blockNumber"), 16)
    wait_until("all anchors are final", 60, lambda: final(node) >= newest)
    watcher.fine("all", url, *everything)
    sizes = [anchored for _, anchored, _, _ in node.anchors(contract)]
    require([line["size"] for line in watcher.anchors("all", "evm:")] == sizes, f"anchors of the chain: {sizes}")
    require([line["size"] for line in watcher.anchors("all", "ledger:")] == blocks(data), "anchors of the ledger")
    require(len(watcher.anchors("all", "bundle")) == 2, "anchors of the bundle")
    before = (args.work / "all").read_bytes()
    text = watcher.fine("all", url, *everything)
    require("chain testnet: 0 new" in text and (args.work / "all").read_bytes() == before, f"read twice: {text}")
    say(f"{len(sizes)} anchors on a chain, {len(blocks(data))} in the ledger and a bundle belong to one history")

    watcher.unsure("fresh", url, *trusting, "--chain-rpc", "testnet=http://127.0.0.1:1", says="did not answer")
    watcher.unsure("fresh", url, *trusting, "--ledger", f"ledger={args.work / 'nothing'}", says="reading")
    text = chains.read_text()
    account = text.split("evm testnet ")[1].split()[2]
    for old, new, says in (
        (f"evm testnet {CHAIN_ID}", "evm testnet 5", "serves chain 31337, and chain 5"),
        (contract, "0x" + "11" * 20, "no contract"),
        (account, "0x" + "22" * 20, "belongs to"),
    ):
        wrong = args.work / "wrong-chains"
        wrong.write_text(text.replace(old, new))
        require(wrong.read_text() != text, f"{old} is not in {text}")
        watcher.unsure("fresh", url, "--chains", wrong, "--chain-rpc", f"testnet={node.url}", says=says)

    def other_root(method, answer):
        if method == "eth_getLogs":
            answer["result"][0]["data"] = answer["result"][0]["data"][:-64] + "77" * 32

    def left_out(method, answer):
        if method == "eth_getLogs":
            del answer["result"][1]

    for forge, says in ((other_root, "can't prove it"), (left_out, "left out")):
        with lying(node, forge) as provider:
            watcher.unsure("fresh", url, *trusting, "--chain-rpc", f"testnet={provider}", says=says)
    say("a provider that is away, of another chain, or lies is no fork and no peace either")

    # From here on only the forger anchors on the chain.
    store.stop()
    configuration(config, node, contract, key, chains=("ledger",))
    store = Store(args.stele, data, **settings)
    url = f"{store.admin}/log"
    size = settled(store)
    forged_anchor(node, contract, sizes[-1], size + 5)
    watcher.unsure("all", url, *on_chain, says="could not be compared")
    put(store, [f"more-{n}" for n in range(20)])
    settled(store)
    text = watcher.shouts("all", url, *on_chain)
    require("chain testnet (block" in text and url in text and "look it up" in text, f"where it was seen: {text}")
    require((args.work / f"all.fork-{size + 5}").read_bytes().startswith(b"STELEEVM"), "the proof of the forged anchor")
    # Who saw nothing but the chain before is told as soon as it sees the log.
    watcher.shouts("late", url, *on_chain)
    say("a forged anchor is shouted, with its proof, once the log has passed its size")

    # A copy of the store goes on by itself, with its own ledger.
    size = settled(store)
    wait_until("the ledger has it", 60, lambda: blocks(data)[-1] == size)
    watcher.fine("ledger", url, *on_ledger)
    store.stop()
    shutil.copytree(data, args.work / "twin")
    first, second = Store(args.stele, data, **settings), Store(args.stele, args.work / "twin", **settings)
    put(first, [f"first-{n}" for n in range(12)])
    put(second, [f"second-{n}" for n in range(4)])
    here = f"{first.admin}/log"
    for one, folder in ((first, data), (second, args.work / "twin")):
        size = settled(one)
        wait_until("the ledger has it", 60, lambda: blocks(folder)[-1] == size)
    twin = [*trusting, "--ledger", f"ledger={args.work / 'twin/anchor/ledger'}"]
    shutil.copy2(args.work / "ledger", args.work / "only-the-log")
    watcher.fine("only-the-log", here, *trusting)
    forked = blocks(args.work / "twin")[len(watcher.anchors("ledger", "ledger:"))]
    text = watcher.shouts("only-the-log", here, *twin)
    require("ledger ledger (block" in text and here in text, f"where it was seen: {text}")
    require(len((args.work / f"only-the-log.fork-{forked}").read_bytes()) == 208, "the block of the forked ledger")
    watcher.fine("ledger", here, *on_ledger)
    watcher.shouts("ledger", here, *twin, says="REWRITTEN")
    require(len((args.work / "ledger.rewritten-block").read_bytes()) == 208, "the other block")
    bundle = Exporter(args.stele, second, args.work).export("forked-bundle", f"s3://{BUCKET}/second-0")
    shutil.copy2(args.work / "all", args.work / "auditor")
    text = watcher.shouts("auditor", here, *trusting, "--bundle", bundle)
    require("forked-bundle (checkpoint)" in text, f"where it was seen: {text}")
    first.stop()
    second.stop()
    node.stop()
    say("a ledger that forked, one that was rewritten, and a bundle of a forked log are shouted")


if __name__ == "__main__":
    main()
