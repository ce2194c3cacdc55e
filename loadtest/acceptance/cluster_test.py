"""The self-test of cluster.py: its pure parts, and faults on processes in namespaces that are no cluster."""

import random
import subprocess
import sys

import cluster_faults
from cluster import METADATA, Cluster, difference, leader_of
from network import missing
from outage import outage
from store import require, say


class Stand:
    """What stands for a node."""

    def __init__(self, name, address, number=None):
        self.name, self.address, self.id = name, address, number


def leaders():
    nodes = [Stand(f"m{n}", f"10.77.0.{n}", n) for n in (1, 2, 3)]
    require(leader_of({"metadata": {"leader": 2}}, nodes) is nodes[1], "a leader by id")
    require(leader_of({"metadata": {"leader": None}}, nodes) is None, "no leader")
    require(leader_of(None, nodes) is None, "no status")
    unknown = [Stand(f"m{n}", f"10.77.0.{n}") for n in (1, 11)]
    rows = [{"id": 7, "addresses": ["10.77.0.11:9100"]}, {"id": 8, "addresses": ["10.77.0.1:9100"]}]
    require(leader_of({"metadata": {"leader": 7}, "nodes": rows}, unknown) is unknown[1], "a leader by address")
    require(leader_of({"metadata": {"leader": 9}, "nodes": rows}, unknown) is None, "a leader that nobody is")


def outages():
    require(outage([1.0, 2.0, 9.0, 9.5], 1.5, 10.0) == 7.0, "the longest time between successes")
    require(outage([], 1.0, 4.0) == 3.0, "no success at all")
    require(outage([1.0, 2.0], 1.5, 10.0) == 8.0, "it never came back")
    require(outage([0.5], 1.0, 3.0) == 2.0, "a success before the fault shows nothing")


def plans():
    def rounds(seed, number, *words):
        plan = cluster_faults.plan(random.Random(seed), *words)
        return [next(plan) for _ in range(number)]

    every = set(cluster_faults.FAULTS)
    require(set(rounds(1, 1)[0]) == every, "a round has every fault")
    require(rounds(1, 3) == rounds(1, 3) and rounds(1, 3) != rounds(2, 3), "a seed decides the order")
    require(rounds(1, 2, None, ["loss"]) == [["loss"], ["loss"]], "only what was asked for")
    few = rounds(1, len(every), 4)
    times = [sum(name in names for names in few) for name in every]
    require(all(len(set(names)) == 4 for names in few), "no fault comes twice in a round")
    require(max(times) - min(times) <= 1, f"each fault has its turn: {times}")
    require(difference([1, 2], [2, 3]) == [1, 3] and not difference([1], [1]), "rows of only one listing")


class Silent(Cluster):
    """Processes that do nothing, on hosts of their own."""

    def found(self):
        self.start_again(self.nodes)

    def start_again(self, nodes):
        for node in nodes:
            node.process = subprocess.Popen([*self.network.before(node.name), sys.executable, "-c", "import time; time.sleep(600)"])

    def leader(self):
        return self.metadata[1]

    def state(self, node):
        """The letter of the kernel: S sleeps, T is stopped."""
        with open(f"/proc/{node.process.pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0]

    def rules(self, node):
        return self.network.inside(node.name, "nft", "list", "chain", "inet", "faults", "in").count("drop")


def faults(work):
    """Each fault touches something, and nothing is left of it."""
    cluster = Silent("none", work)
    cluster.found()
    for name in cluster_faults.FAULTS:
        before = {node: node.process.pid for node in cluster.nodes}
        fault = cluster_faults.FAULTS[name][0](cluster, random.Random(name))
        fault.apply()
        touched = [node for node in cluster.nodes if not node.runs() or cluster.state(node) == "T" or cluster.rules(node)]
        require(touched, f"{name} does nothing")
        if fault.leader_lost and not name.endswith("dumb"):
            require(cluster.leader() in touched, f"{name} spares the leader")
        fault.undo()
        cluster.repair_everything()
        for node in cluster.nodes:
            require(node.runs() and cluster.state(node) != "T" and not cluster.rules(node), f"{name} leaves {node.name} behind")
            require(node in touched or node.process.pid == before[node], f"{name}: {node.name} was started again")
        say(f"{name}: {len(touched)} of {len(cluster.nodes)} hosts")
    spaces = [space for space, _ in cluster.network.hosts.values()]
    cluster.kill()
    cluster.network.close()
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    require(len(spaces) > METADATA and not set(spaces) & set(left), f"namespaces are left: {left}")


def run():
    import pathlib
    import tempfile

    leaders()
    outages()
    plans()
    lacks = missing()
    if lacks:
        say(f"faults are not tested: {lacks}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        faults(pathlib.Path(folder))
    say("all well")
    return 0
