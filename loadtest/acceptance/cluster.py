#!/usr/bin/env python3
"""A cluster of processes, each on a host of its own, survives what breaks in practice.

    cluster.py --stele target/debug/stele --work DIR [--rounds 3] [--faults N] [--seed 1]
    cluster.py --self-test                     what can be tested without a cluster

3 metadata nodes, 6 storage nodes and 2 gateways run in network namespaces (network.py). A round goes through the
faults of cluster_faults.py, or `--faults` of them, in an order that the seed decides. During each, verified load (`stele-loadtest run`)
and recorded clients (history.py) work through both gateways. After each: every process runs that should, status
names no problem within a bound without help, every gateway writes, `stele-loadtest check` is clean for every ledger through both
gateways, both list the same, and the recorded history is linearizable. How long writes stood still is measured;
for a lost leader it has a bound. Prints a row of JSON for each fault. Needs root; cleans up when it ends.
"""

import argparse
import atexit
import http.client
import json
import os
import pathlib
import queue
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree

import cluster_faults
import history
import linearizable
from network import Network, missing
from outage import Prober, outage
from store import ACCESS, SECRET, require, say

BUCKET = "cluster"
METADATA, STORAGE, GATEWAYS = 3, 6, 2
RPC, S3, ADMIN = 9100, 9000, 9001
READY_SECONDS = 60
STOP_SECONDS = 60
# A healthy cluster's gateways have the newest map within so long.
WRITE_SECONDS = 3
# Load before a fault, and after its end.
BEFORE_SECONDS, AFTER_SECONDS = 2, 5
# Collection runs often, so that a node that was away for a minute has missed several runs.
SETTINGS = {"STELE_GC_INTERVAL": "5s", "STELE_GC_GRACE": "10s", "STELE_LOG_LEVEL": "warn"}


def environment(role):
    found = {name: value for name, value in os.environ.items() if not name.startswith("STELE_")}
    found.update(SETTINGS)
    if role == "s3-gateway":
        found.update(STELE_ROOT_ACCESS_KEY=ACCESS, STELE_ROOT_SECRET_KEY=SECRET)
    return found


class Node:
    """One process on its host. Its identity is on disk: the token is for the first start."""

    def __init__(self, cluster, name, role, extra=()):
        self.cluster, self.name, self.role, self.extra = cluster, name, role, list(extra)
        self.address = cluster.network.host(name)
        self.data = cluster.work / name
        self.process, self.id, self.token = None, None, None
        self.errors = (cluster.work / f"{name}.stderr").open("ab")
        self.stopped = False

    def start(self):
        """Starts it; does not wait: what it waits for may be started later."""
        words = [*self.cluster.network.before(self.name), self.cluster.stele, self.role, "--json", "--data", str(self.data)]
        words += ["--rpc-addr", f"{self.address}:{RPC}", "--admin-addr", f"{self.address}:{ADMIN}"]
        if self.token:
            words += ["--join", self.token]
        # The first metadata node was told where it is when the cluster was founded.
        if self.name != "m1":
            words += ["--advertise", f"{self.address}:{RPC}"]
        self.process = subprocess.Popen(
            words + self.extra, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
            env=environment(self.role), text=True,
        )
        self.lines = queue.Queue()
        threading.Thread(target=read_lines, args=(self.process.stdout, self.lines), daemon=True).start()

    def wait_ready(self, deadline):
        while True:
            try:
                line = self.lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                require(False, f"{self.name} was not ready in time: {self.words()}")
            require(line is not None, f"{self.name} ended: {self.words()}")
            ready = json.loads(line)
            if ready.get("event") == "ready":
                self.id = ready.get("node", self.id)
                self.token = None
                return

    def words(self):
        """The last words on stderr."""
        return pathlib.Path(self.errors.name).read_text(errors="replace")[-2000:]

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.runs():
            self.process.kill()
            self.process.wait()
        self.stopped = False

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def resume(self):
        if self.stopped and self.runs():
            self.process.send_signal(signal.SIGCONT)
        self.stopped = False

    def terminate(self):
        """SIGTERM; it must end well."""
        self.process.terminate()
        require(self.process.wait(timeout=STOP_SECONDS) == 0, f"{self.name} did not end well: {self.words()}")

    @property
    def s3(self):
        return f"http://{self.address}:{S3}"


def read_lines(stream, lines):
    for line in stream:
        lines.put(line)
    lines.put(None)


class Cluster:
    """The processes by role, and what the rounds ask of them."""

    def __init__(self, stele, work, drives=1, network=None):
        self.stele, self.work = str(stele), work
        self.network = network or Network()
        self.admin_file = work / "admin.toml"
        self.metadata = [Node(self, f"m{n}", "metadata") for n in range(1, METADATA + 1)]
        self.storage = [Node(self, f"s{n}", "storage-node", self.drives(n, drives)) for n in range(1, STORAGE + 1)]
        self.gateways = [Node(self, f"g{n}", "s3-gateway") for n in range(1, GATEWAYS + 1)]
        for gateway in self.gateways:
            gateway.extra = ["--s3-addr", f"{gateway.address}:{S3}"]
        # Runs before Network's own: what was registered last goes first.
        atexit.register(self.kill)

    def drives(self, number, count):
        paths = [self.work / f"s{number}-drive{drive}" for drive in range(1, count + 1)]
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
        return [word for path in paths for word in ("--drive", str(path))]

    @property
    def nodes(self):
        return [*self.metadata, *self.storage, *self.gateways]

    def found(self):
        """From nothing to a cluster that takes writes."""
        first = self.metadata[0]
        self.ask("init", "--data", first.data, "--advertise", f"{first.address}:{RPC}",
                 "--admin-file", self.admin_file)
        for node in self.nodes:
            if node is not first:
                node.token = self.operate("token", "--role", node.role).strip()
            node.start()
            if node.role == "metadata":
                # One at a time: each joins a cluster that has a leader.
                node.wait_ready(time.monotonic() + READY_SECONDS)
            if node is self.storage[-1]:
                self.wait_ready(self.storage)
                self.operate("place")
        self.wait_ready(self.gateways)

    def ask(self, *words):
        """`stele cluster ...`; what it prints."""
        command = [self.stele, "cluster", *map(str, words)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                              env=environment("operator"))
        require(done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def operate(self, what, *words):
        return self.ask(what, "--admin", self.admin_file, *words)

    def status(self):
        """What the cluster says of itself, or None while it does not answer."""
        command = [self.stele, "cluster", "status", "--admin", str(self.admin_file), "--json"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=15,
                                  env=environment("operator"))
            return json.loads(done.stdout)
        except (subprocess.TimeoutExpired, json.JSONDecodeError):
            return None

    def leader(self):
        """The metadata node that leads."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = leader_of(self.status(), self.metadata)
            if found:
                return found
            time.sleep(0.2)
        require(False, "no leader in 30 s")

    def wait_ready(self, nodes):
        deadline = time.monotonic() + READY_SECONDS
        for node in nodes:
            node.wait_ready(deadline)

    def start_again(self, nodes):
        """What a supervisor does with processes that were killed."""
        for node in nodes:
            node.start()
        self.wait_ready(nodes)

    def wait_healthy(self, seconds):
        """Seconds until status names no problem; fails after `seconds`."""
        began, last = time.monotonic(), None
        while time.monotonic() - began < seconds:
            last = self.status()
            if last and not last["problems"]:
                return time.monotonic() - began
            time.sleep(0.5)
        require(False, f"not healthy within {seconds} s: {last and last['problems']}")

    def all_run(self):
        for node in self.nodes:
            require(node.runs(), f"{node.name} ended by itself: {node.words()}")
            require("panicked" not in node.words(), f"{node.name}: {node.words()}")

    def repair_everything(self):
        """Ends what a fault left behind, also after an exception."""
        self.network.heal()
        for node in self.nodes:
            node.resume()

    def terminate(self):
        """Gateways first, so that nothing is left under way."""
        for node in [*self.gateways, *self.storage, *self.metadata]:
            node.terminate()

    def kill(self):
        for node in self.nodes:
            node.kill()


def leader_of(status, metadata):
    """Finds the node that status calls leader: by the id of its ready line, or by its address."""
    leader = (status or {}).get("metadata", {}).get("leader")
    if leader is None:
        return None
    for node in metadata:
        if node.id is not None and str(node.id) == str(leader):
            return node
    rows = [row for row in status.get("nodes", []) if str(row.get("id", row.get("node"))) == str(leader)]
    for node in metadata:
        if any(f"{node.address}:" in json.dumps(row) for row in rows):
            return node
    return None


class Load:
    """One `stele-loadtest run` through one gateway, with its ledger."""

    def __init__(self, loadtest, gateway, ledger, seed, prefix):
        self.loadtest, self.gateway, self.ledger, self.seed, self.prefix = loadtest, gateway, ledger, seed, prefix

    def start(self, seconds):
        self.seconds = seconds
        target = ["--endpoint", self.gateway.s3, "--bucket", BUCKET]
        words = ["--seed", str(self.seed), "--prefix", self.prefix, "--seconds", str(int(seconds)), "--clients", "4"]
        sizes = ["--sizes", "0B:1,512B:10,4KiB:40,64KiB:30,1MiB:8,9MiB:1"]
        self.process = self.run("run", *target, *words, *sizes)

    def run(self, what, *words):
        command = [self.loadtest, what, "--ledger", str(self.ledger), *words]
        keys = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, env=keys)
        atexit.register(end, process)
        return process

    def finish(self):
        """Its report; reads that differ fail."""
        return report("load", self.process, self.seconds + 180)

    def check(self, gateway):
        """Every ledger holds through every gateway."""
        checked = self.run("check", "--endpoint", gateway.s3, "--bucket", BUCKET)
        return report(f"check of {self.ledger.name} through {gateway.name}", checked, 900)


def end(process):
    if process.poll() is None:
        process.kill()
        process.wait()


def report(what, process, seconds):
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process)
        require(False, f"{what} did not end in {seconds} s")
    require(process.returncode == 0, f"{what}: {text[-3000:]}")
    return json.loads(text[text.index("{"):])


def listing(url):
    """All (key, ETag, size) of the bucket, page by page."""
    wire, rows, token = history.Wire(ACCESS, SECRET, 60), [], None
    while True:
        query = "list-type=2" + (f"&continuation-token={urllib.parse.quote(token, safe='')}" if token else "")
        status, _, content = wire.call(url, "GET", f"/{BUCKET}", query)
        require(status == 200, f"listing through {url}: {status} {content[:300]!r}")
        page = xml.etree.ElementTree.fromstring(content)
        for entry in page.iter():
            if entry.tag.rpartition("}")[2] == "Contents":
                fields = {field.tag.rpartition("}")[2]: field.text for field in entry}
                rows.append((fields["Key"], fields["ETag"], fields["Size"]))
        token = next((entry.text for entry in page if entry.tag.rpartition("}")[2] == "NextContinuationToken"), None)
        if not token:
            return rows


def difference(one, other):
    """A few rows that only one of two listings has."""
    return sorted(set(one) ^ set(other))[:10]


class Rounds:
    """Goes through the faults and judges what is left after each."""

    def __init__(self, cluster, args):
        self.cluster, self.args, self.loads = cluster, args, []

    def run(self):
        plan = cluster_faults.plan(random.Random(self.args.seed), self.args.faults, self.args.only)
        for number, names in zip(range(1, self.args.rounds + 1), plan):
            rng = random.Random(f"{self.args.seed} {number}")
            # Ledgers of its own for each round; all of them are checked again at the end.
            loads = [
                Load(self.args.loadtest, gateway, self.cluster.work / f"ledger-{number}-{gateway.name}",
                     rng.randrange(1 << 32), f"round{number}/{gateway.name}/")
                for gateway in self.cluster.gateways
            ]
            self.loads += loads
            for name in names:
                self.one(number, name, rng, loads)
        self.check(self.loads)

    def one(self, number, name, rng, loads):
        choose, seconds = cluster_faults.FAULTS[name]
        hold, fault = rng.uniform(*seconds), choose(self.cluster, rng)
        say(f"round {number}: {name} for {hold:.0f} s")
        urls, credentials = [gateway.s3 for gateway in self.cluster.gateways], (ACCESS, SECRET)
        recorder = history.Recorder(urls, BUCKET, credentials, rng.randrange(1 << 32), clients=6, keys=6)
        probers = {gateway: Prober(gateway.s3, BUCKET, credentials) for gateway in self.cluster.gateways}
        for load in loads:
            load.start(BEFORE_SECONDS + hold + AFTER_SECONDS)
        for worker in (recorder, *probers.values()):
            worker.start()
        time.sleep(BEFORE_SECONDS)
        began = time.monotonic()
        try:
            fault.apply()
            time.sleep(hold)
            fault.undo()
        finally:
            self.cluster.repair_everything()
        time.sleep(AFTER_SECONDS)
        ended = time.monotonic()
        gaps = {gateway: outage(prober.stop(), began, ended) for gateway, prober in probers.items()}
        rows = recorder.stop()
        reports = [load.finish() for load in loads]
        if fault.leader_lost:
            still = max(gap for gateway, gap in gaps.items() if gateway not in fault.down)
            require(still <= self.args.failover_seconds, f"{name}: writes stood still for {still:.1f} s")
        self.cluster.all_run()
        healthy = self.cluster.wait_healthy(self.args.healthy_seconds)
        self.write_everywhere()
        self.check(loads)
        operations = self.linearizable(f"history-{number}-{name}.jsonl", rows)
        print(json.dumps({
            "round": number, "fault": name, "seconds": round(hold, 1),
            "writes_stopped_seconds": {gateway.name: round(gap, 2) for gateway, gap in gaps.items()},
            "healthy_seconds": round(healthy, 1), "recorded": operations,
            "acknowledged": [found["acknowledged"] for found in reports],
        }), flush=True)

    def write_everywhere(self):
        """Once status names no problem, every gateway writes, as soon as it has heard of it."""
        wire = history.Wire(ACCESS, SECRET, WRITE_SECONDS)
        for gateway in self.cluster.gateways:
            deadline = time.monotonic() + WRITE_SECONDS
            status, content = None, b""
            while status != 200:
                require(time.monotonic() < deadline, f"{gateway.name} does not write: {status} {content[:300]!r}")
                try:
                    status, _, content = wire.call(gateway.s3, "PUT", f"/{BUCKET}/healthy/{gateway.name}", body=b"well")
                except (history.NotSent, OSError, http.client.HTTPException) as error:
                    status, content = None, str(error)

    def check(self, loads):
        """Every ledger holds through every gateway, and all gateways list the same."""
        for load in loads:
            for gateway in self.cluster.gateways:
                load.check(gateway)
        first, *rest = [listing(gateway.s3) for gateway in self.cluster.gateways]
        for other in rest:
            require(first == other, f"the gateways list differently: {difference(first, other)}")

    def linearizable(self, name, rows):
        path = self.cluster.work / name
        history.write(path, {"seed": self.args.seed, "endpoints": [gateway.name for gateway in self.cluster.gateways]}, rows)
        with path.open(encoding="utf-8") as lines:
            verdict = linearizable.check(linearizable.load(lines))
        require(verdict.code == 0, f"{path}: {verdict.text()}")
        path.unlink()
        return verdict.operations


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stele", type=pathlib.Path, help="the binary")
    parser.add_argument("--loadtest", help="stele-loadtest; by default beside the binary")
    parser.add_argument("--work", type=pathlib.Path, help="an empty folder on a real drive")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drives", type=int, default=1, help="of each storage node")
    parser.add_argument("--faults", type=int, help="of each round; by default all. Over the rounds each has its turn")
    parser.add_argument("--only", action="append", choices=list(cluster_faults.FAULTS), help="these faults; several times")
    parser.add_argument("--failover-seconds", type=float, default=5, help="how long a lost leader may stop writes")
    parser.add_argument("--healthy-seconds", type=float, default=60, help="until status must name no problem")
    parser.add_argument("--self-test", action="store_true", help="test what needs no cluster")
    args = parser.parse_args()
    if args.self_test:
        import cluster_test

        return cluster_test.run()
    if not args.stele or not args.work:
        parser.error("--stele and --work, or --self-test")
    lacks = missing()
    require(not lacks, f"missing: {lacks}")
    args.loadtest = args.loadtest or str(args.stele.parent / "stele-loadtest")
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    # SystemExit runs what atexit knows; a signal would not.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("ended by a signal"))
    cluster = Cluster(args.stele.resolve(), args.work, args.drives)
    cluster.found()
    cluster.wait_healthy(args.healthy_seconds)
    history.make_bucket(cluster.gateways[0].s3, BUCKET, (ACCESS, SECRET))
    say("the cluster takes writes")
    Rounds(cluster, args).run()
    cluster.all_run()
    cluster.terminate()
    say(f"{args.rounds} rounds with seed {args.seed}: all well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
