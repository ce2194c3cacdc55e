"""Who must not get in: a replayed, revoked, misspelt or foreign join token, a certificate of another cluster, a node that
plays operator, and garbage on the port. Each is refused with a reason and logged, the cluster goes on, and no log
holds a secret. Loopback only; the processes are ended by their own ids."""

import atexit
import json
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import tomllib

from store import arguments, require, say

META, STORE = 7301, 7311


class Process:
    def __init__(self, args, name, *words):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STELE_")}
        self.errors = args.work / f"{name}.stderr"
        self.process = subprocess.Popen(
            [args.stele, *map(str, words), "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=self.errors.open("ab"), env=environment, text=True,
        )
        atexit.register(self.kill)

    def ready(self):
        line = self.process.stdout.readline()
        require(line and json.loads(line)["event"] == "ready", f"not ready: {self.words()[-2000:]}")
        return self

    def ended(self, seconds=20):
        """Its last words, once it has ended with an error."""
        code = self.process.wait(timeout=seconds)
        require(code != 0, f"it ended well: {self.words()[-2000:]}")
        return self.words()

    def words(self):
        return self.errors.read_text(errors="replace")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def ask(args, admin, *words, fails=False):
    command = [args.stele, "cluster", *map(str, words), "--admin", str(admin)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STELE_")}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=environment)
    require((done.returncode != 0) == fails, f"{words}: {done.returncode} {done.stdout} {done.stderr}")
    return (done.stderr if fails else done.stdout).strip()


def admin_file(path, cluster, papers, address):
    """What a thief of a node's papers could make of them."""
    path.write_text(
        f'cluster = "{cluster}"\nca = """{papers["ca_pem"]}"""\ncertificate = """{papers["certificate_pem"]}"""\n'
        f'key = """{papers["key_pem"]}"""\n\n[[metadata]]\nnode = 1\naddresses = ["{address}"]\n'
    )
    path.chmod(0o600)
    return path


def found(args, name, port):
    init = [args.stele, "cluster", "init", "--data", args.work / name, "--advertise", f"127.0.0.1:{port}",
            "--admin-file", args.work / f"{name}.toml"]
    subprocess.run(list(map(str, init)), check=True, stdout=subprocess.DEVNULL)
    return args.work / f"{name}.toml"


def storage(args, name, token):
    return Process(args, name, "storage-node", "--data", args.work / name, "--drive", args.work / f"{name}-drive",
                   "--join", token, "--rpc-addr", f"127.0.0.1:{STORE}", "--advertise", f"127.0.0.1:{STORE}",
                   "--admin-addr", "127.0.0.1:0")


def garbage(seed):
    """Datagrams of every size, some that begin like a handshake."""
    draw = random.Random(seed)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(3000):
            size = draw.choice([0, 1, 20, 200, 1200, 1452, 9000])
            body = bytearray(draw.randbytes(size))
            if body and number % 2:
                body[:5] = bytes([0xC3, 0, 0, 0, 1])[: len(body)]
            sender.sendto(bytes(body), ("127.0.0.1", META))


def main():
    args = arguments(__doc__)
    for old in args.work.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    admin, foreign = found(args, "ours", META), found(args, "theirs", META)
    leader = Process(args, "metadata", "metadata", "--data", args.work / "ours", "--rpc-addr", f"127.0.0.1:{META}",
                     "--admin-addr", "127.0.0.1:0").ready()

    token = ask(args, admin, "token", "--role", "storage-node")
    node = storage(args, "s1", token).ready()
    node.kill()
    words = storage(args, "s2", token).ended()
    require("not valid" in words, f"a replayed token: {words}")
    say("a replayed token is refused")

    revoked = ask(args, admin, "token", "--role", "storage-node")
    ask(args, admin, "revoke", ask(args, admin, "tokens").split()[0])
    require("not valid" in storage(args, "s3", revoked).ended(), "a revoked token got in")
    other_role = ask(args, admin, "token", "--role", "s3-gateway")
    require("for the role s3-gateway" in storage(args, "s4", other_role).ended(), "a token of another role got in")
    require("token" in storage(args, "s5", token[:-3]).ended(), "a cut token got in")
    say("revoked and cut tokens and those of another role are refused")

    words = ask(args, foreign, "status", fails=True)
    require("127.0.0.1" in words, f"another cluster's operator: {words}")
    say("another cluster's certificate is refused")

    papers = tomllib.loads((args.work / "s1/papers.toml").read_text())
    cluster = tomllib.loads(admin.read_text())["cluster"]
    thief = admin_file(args.work / "thief.toml", cluster, papers, f"127.0.0.1:{META}")
    words = ask(args, thief, "token", "--role", "metadata", fails=True)
    require("may not" in words or "Forbidden" in words, f"a storage node that makes tokens: {words}")
    say("a storage node that plays operator is refused")

    garbage(1)
    require("s3-gateway" in ask(args, admin, "tokens"), "the cluster does not answer after garbage")
    say("garbage changes nothing")

    log = leader.words()
    require(log.count("was not let in") >= 3, f"refusals are not logged: {log}")
    require("a handshake failed" in log and "not allowed to this role" in log, f"refusals are not logged: {log}")
    require("panicked" not in log, log)
    secrets = [token, revoked, other_role, *re.findall(r"[A-Za-z0-9+/]{60,}", papers["key_pem"])]
    secrets += [part.split(":")[-1] for part in (token, revoked, other_role)]
    for one in args.work.glob("*.stderr"):
        text = one.read_text(errors="replace")
        for secret in secrets:
            require(secret not in text, f"{one.name} holds a secret")
    say("every refusal is logged, and no log holds a secret")


main()
