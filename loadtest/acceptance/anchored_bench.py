#!/usr/bin/env python3
"""How long from the answer to a PUT until the object's bundle has an anchor on the embedded ledger that covers it: in the
default configuration, where PUTs spread evenly over the time between two anchors, and where checkpoints and anchors are
made each second. Prints a row of JSON for each.

    anchored_bench.py --stele target/release/stele --work DIR [--puts 20] [--only default|"each second"]
"""

import io
import json
import random
import statistics
import tarfile
import time
import urllib.error
import urllib.request

from evidence_bundles import Exporter
from store import BUCKET, Store, arguments, require, say, wait_until

# Between two anchors on one chain, as docs/configuration.md has it.
DEFAULT_SECONDS = 600
OFTEN = '[anchor]\ninterval = "1s"\n[[anchor.chains]]\nname = "ledger"\nkind = "ledger"\ninterval = "1s"\n'
SPREADS = {"default": DEFAULT_SECONDS, "each second": 1}
BLOCK = 208


def sizes(data):
    content = (data / "anchor/ledger").read_bytes()
    return [int.from_bytes(content[at + 104 : at + 112], "little") for at in range(0, len(content) - BLOCK + 1, BLOCK)]


class Put:
    """One object, and when its bundle had its anchor."""

    def __init__(self, store, number):
        self.key = f"k{number}"
        answer = store.client().put_object(Bucket=BUCKET, Key=self.key, Body=bytes(4096))
        self.begun, self.seconds = time.monotonic(), None
        self.index = int(answer["ResponseMetadata"]["HTTPHeaders"]["x-stele-log"][2:])

    def look(self, exporter, anchored):
        """Asks for the bundle once the ledger has a block that covers the entry."""
        if anchored <= self.index:
            return
        try:
            with urllib.request.urlopen(exporter.signed("GET", f"/{BUCKET}/{self.key}", {"evidence": ""}), timeout=60) as answer:
                archive = tarfile.open(fileobj=io.BytesIO(answer.read()))
        except urllib.error.HTTPError as error:
            require(error.code == 503, f"the bundle of {self.key}: {error.code}")
            return
        name = next(name for name in archive.getnames() if name.endswith("stele-bundle.json"))
        contents = json.load(archive.extractfile(name))
        if any(found["chain"] == "ledger" and found["size"] > self.index for found in contents.get("anchors", [])):
            self.seconds = time.monotonic() - self.begun


def measured(args, name):
    """The row of one configuration."""
    data = args.work / name.replace(" ", "-")
    settings = {}
    if name != "default":
        (args.work / "often.toml").write_text(OFTEN)
        settings["config"] = str(args.work / "often.toml")
    store = Store(args.stele, data, **settings)
    store.client().create_bucket(Bucket=BUCKET)
    exporter = Exporter(args.stele, store, args.work)
    wait_until("the first block of the ledger", 120, lambda: (data / "anchor/ledger").exists() and sizes(data))
    begun, rng = time.monotonic(), random.Random(15)
    # One PUT in each of so many equal parts of the time between two anchors, at a moment of it that is drawn.
    slot = SPREADS[name] / args.puts if name == "default" else SPREADS[name] * 2.5
    due = [begun + slot * (n + rng.random()) for n in range(args.puts)]
    puts = []
    deadline = due[-1] + DEFAULT_SECONDS + 120
    while len(puts) < args.puts or any(put.seconds is None for put in puts):
        require(time.monotonic() < deadline, f"{name}: no anchor within {DEFAULT_SECONDS + 120} s")
        if len(puts) < args.puts and time.monotonic() >= due[len(puts)]:
            puts.append(Put(store, len(puts)))
        anchored = sizes(data)[-1]
        for put in puts:
            if put.seconds is None:
                put.look(exporter, anchored)
        time.sleep(0.02)
    store.stop()
    seconds = sorted(put.seconds for put in puts)
    say(f"{name}: {[round(one, 2) for one in seconds]}")
    return {
        "bench": "put_to_anchored", "configuration": name, "puts": len(seconds),
        "median_s": round(statistics.median(seconds), 2), "least_s": round(seconds[0], 2), "most_s": round(seconds[-1], 2),
    }


def main():
    args = arguments(__doc__, ("--puts", int, 20), ("--only", str, None))
    for name in SPREADS:
        if args.only in (None, name):
            print(json.dumps(measured(args, name)), flush=True)


if __name__ == "__main__":
    main()
