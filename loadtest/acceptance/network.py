"""Hosts of their own on one machine: network namespaces on a bridge, with faults between them. Everything
is named after this process and removed when it ends, also when a script fails. Needs root, iproute2 and
nftables. Imported by the cluster scripts of this folder."""

import atexit
import os
import signal
import subprocess
import sys

from store import require, say

MTU = 1500


def run(*words, check=True):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    require(done.returncode == 0 or not check, f"{' '.join(words)}: {done.stdout.strip()}")
    return done.stdout


def missing():
    """What this machine lacks for it, or None."""
    if os.geteuid() != 0:
        return "root, for network namespaces"
    for words in (("ip", "-V"), ("nft", "--version")):
        try:
            subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        except (OSError, subprocess.CalledProcessError):
            return f"{words[0]}; get it with `cargo xtask tools`"
    return None


class Network:
    """Hosts by name, on 10.77.0.0/24. The machine itself is 10.77.0.254, so that a load tester reaches all."""

    def __init__(self):
        self.tag = f"s{os.getpid() % 100_000}"
        self.bridge = f"{self.tag}br"
        self.hosts = {}
        atexit.register(self.close)
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", "10.77.0.254/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")

    def host(self, name):
        """Makes a host; its address."""
        number = len(self.hosts) + 1
        space, outside, address = f"{self.tag}{name}", f"{self.tag}v{number}", f"10.77.0.{number}"
        self.hosts[name] = (space, address)
        run("ip", "netns", "add", space)
        run("ip", "link", "add", outside, "mtu", str(MTU), "type", "veth", "peer", "name", "eth0", "mtu", str(MTU),
            "netns", space)
        run("ip", "link", "set", outside, "master", self.bridge, "up")
        self.inside(name, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
        self.inside(name, "ip", "link", "set", "eth0", "up")
        self.inside(name, "ip", "link", "set", "lo", "up")
        self.inside(name, "nft", "add table inet faults; add chain inet faults in { type filter hook input priority 0; }")
        return address

    def address(self, name):
        return self.hosts[name][1]

    def before(self, name):
        """Words that put a command onto a host."""
        return ("ip", "netns", "exec", self.hosts[name][0])

    def inside(self, name, *words, check=True):
        return run(*self.before(name), *words, check=check)

    def cut(self, here, there):
        """`here` hears nothing of `there` any more; the other direction stays."""
        self.inside(here, "nft", f"add rule inet faults in ip saddr {self.address(there)} drop")

    def part(self, some, others):
        """No packet passes between the two sides."""
        for one in some:
            for other in others:
                self.cut(one, other)
                self.cut(other, one)

    def loss(self, name, percent):
        """Of what arrives at a host, so much is lost."""
        self.inside(name, "nft", f"add rule inet faults in ip saddr 10.77.0.0/24 numgen random mod 100 < {percent} drop")

    def heal(self):
        """Ends every fault."""
        for name in self.hosts:
            self.inside(name, "nft", "flush chain inet faults in")

    def close(self):
        for space, _ in self.hosts.values():
            for process in run("ip", "netns", "pids", space, check=False).split():
                try:
                    os.kill(int(process), signal.SIGKILL)
                except (ProcessLookupError, ValueError):
                    pass
            run("ip", "netns", "del", space, check=False)
        self.hosts = {}
        run("ip", "link", "del", self.bridge, check=False)


    def reaches(self, here, there):
        """Whether a packet goes there and back: a closed port refuses, silence is a fault."""
        ask = f"import socket\ntry: socket.create_connection(('{self.address(there)}', 9), 1)\nexcept ConnectionRefusedError: print('yes')\nexcept OSError: pass"
        return "yes" in self.inside(here, sys.executable, "-c", ask)


if __name__ == "__main__":
    network = Network()
    for host in ("a", "b"):
        network.host(host)
    require(network.reaches("a", "b"), "b does not answer")
    network.cut("a", "b")
    require(not network.reaches("a", "b"), "b answers through a cut")
    network.heal()
    network.loss("b", 10)
    network.heal()
    require(network.reaches("b", "a"), "a does not answer after the end of the faults")
    say("the network works, and its faults do too")
