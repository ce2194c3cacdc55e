#!/usr/bin/env python3
"""Records evm-anvil.proof from a real node, and checks it with other people's trie.

    evm-anvil.py http://127.0.0.1:8545 OUT

The node is anvil with --no-mining. Needs the packages trie, rlp and eth-hash. The contract is a few
instructions by hand: it emits the event and stores the root as docs/formats/evm-proof.md says, without the
checks of the real one. Run it only if the format changed, as another run makes another block.
"""
import hashlib
import json
import struct
import sys
import urllib.request

import rlp
from eth_hash.auto import keccak
from trie import HexaryTrie

URL, OUT = sys.argv[1:]
LOG_ID = hashlib.sha256(b"log.example/evm").digest()
PREVIOUS, SIZE, ROOT, SLOT = 12, 300, bytes([0, 0]) + bytes([0x42]) * 30, 1
EVENT = keccak(b"Anchored(bytes32,uint64,uint64,bytes32,address)")


def rpc(method, *params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(URL, body, {"content-type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=30))
    assert "error" not in answer, answer
    return answer["result"]


def raw(text):
    return bytes.fromhex(text[2:])


def number(text):
    return int(text, 16)


def word(value):
    return value.to_bytes(32, "big")


def contract():
    code = bytes.fromhex("6060602060003733600035" + "7f") + EVENT + bytes.fromhex("60606000a3")
    # rootAt[logId][size] = root
    code += bytes.fromhex("600035600052" "6001602052" "6040600020602052" "604035600052" "606035" "6040600020" "55" "00")
    return bytes.fromhex("60%02x80600b6000396000f3" % len(code)) + code


def header(block):
    fields = ["parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom"]
    numbers = ["difficulty", "number", "gasLimit", "gasUsed", "timestamp"]
    items = [raw(block[name]) for name in fields] + [number(block[name]) for name in numbers]
    items += [raw(block["extraData"]), raw(block["mixHash"]), raw(block["nonce"])]
    for name in ["baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash"]:
        if block.get(name) is not None:
            items.append(raw(block[name]) if len(block[name]) == 66 else number(block[name]))
    encoded = rlp.encode(items)
    assert keccak(encoded) == raw(block["hash"]), "the header is built otherwise than the node hashes it"
    return encoded


def receipt(found):
    logs = [[raw(log["address"]), [raw(topic) for topic in log["topics"]], raw(log["data"])] for log in found["logs"]]
    body = rlp.encode([number(found["status"]), number(found["cumulativeGasUsed"]), raw(found["logsBloom"]), logs])
    kind = number(found.get("type", "0x0"))
    return body if kind == 0 else bytes([kind]) + body


def nodes(listed):
    return struct.pack("<I", len(listed)) + b"".join(struct.pack("<I", len(node)) + node for node in listed)


def mine(transactions):
    sent = [rpc("eth_sendTransaction", transaction) for transaction in transactions]
    rpc("evm_mine")
    return [rpc("eth_getTransactionReceipt", one) for one in sent]


accounts = rpc("eth_accounts")
sender = accounts[0]
[deployed] = mine([{"from": sender, "data": "0x" + contract().hex(), "gas": "0x100000"}])
address = deployed["contractAddress"]
call = LOG_ID + word(PREVIOUS) + word(SIZE) + ROOT
price = rpc("eth_gasPrice")
pay = [{"from": one, "to": sender, "value": "0x1", "gas": "0x5208", "gasPrice": price} for one in accounts[1:9]]
pay += [{"from": one, "to": sender, "value": "0x1", "gas": "0x5208"} for one in accounts[1:9]]
found = mine(pay + [{"from": sender, "to": address, "data": "0x" + call.hex(), "gas": "0x40000"}])[-1]
assert found["status"] == "0x1" and len(found["logs"]) == 1, found

block = rpc("eth_getBlockByHash", found["blockHash"], False)
receipts = [receipt(rpc("eth_getTransactionReceipt", one)) for one in block["transactions"]]
assert len(receipts) == 17 and {one[0] for one in receipts} >= {2}, "the block has typed and legacy receipts"
tree = HexaryTrie({})
for at, value in enumerate(receipts):
    tree[rlp.encode(at)] = value
assert tree.root_hash == raw(block["receiptsRoot"]), "the receipts are built otherwise than the node hashes them"
at = number(found["transactionIndex"])
key = rlp.encode(at)
way = [rlp.encode(node) for node in tree.get_proof(key)]

inner = keccak(LOG_ID + word(SLOT))
slot = keccak(word(SIZE) + inner)
state = rpc("eth_getProof", address, ["0x" + slot.hex()], found["blockNumber"])
account, storage = ([raw(node) for node in one] for one in (state["accountProof"], state["storageProof"][0]["proof"]))

out = b"STELEEVM" + struct.pack("<HHQ", 1, 1, number(rpc("eth_chainId"))) + raw(address) + raw(sender)
out += struct.pack("<II", at, 0)
encoded = header(block)
out += struct.pack("<I", len(encoded)) + encoded + nodes(way)
out += struct.pack("<Q", SLOT) + nodes(account) + nodes(storage)
open(OUT, "wb").write(out)


def shown(way):
    try:
        return HexaryTrie.get_from_proof(tree.root_hash, key, [rlp.decode(node) for node in way])
    except Exception:
        return None


assert shown(way) == receipts[at]
refused = 0
for step in range(24):
    spoilt = [bytearray(node) for node in way]
    node = spoilt[step % len(spoilt)]
    node[step * 37 % len(node)] ^= 1 << (step % 8)
    refused += shown([bytes(node) for node in spoilt]) != receipts[at]
assert refused == 24, refused
print("block", block["hash"], "at", number(block["timestamp"]), "transaction", at, "nodes", len(way), len(account), len(storage))
