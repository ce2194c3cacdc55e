"""One running `stele dev` and what the acceptance scripts ask of it. Loopback only; the process is
ended by its own id, also when a script fails. Imported by every script in this folder."""

import argparse
import atexit
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

import boto3
from botocore.config import Config

ACCESS, SECRET = "acceptance-access", "acceptance-secret-key"
BUCKET = "acceptance"


def say(text):
    """Progress goes to stderr, so that stdout can carry rows of JSON."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def require(condition, text):
    """Ends the script with this text unless the condition holds."""
    if not condition:
        sys.exit(f"FAILED: {text}")


def arguments(description, *options):
    """--stele and --work, and what else a script takes, as (name, type, default); a list may be given many times."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stele", required=True, help="the binary")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="an empty folder on a real drive")
    for name, kind, default in options:
        action = "append" if isinstance(default, list) else "store"
        parser.add_argument(name, type=kind, default=default, action=action)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    return args


class Store:
    """A store over `data`. `settings` are STELE_* variables; `before` is put in front of the command."""

    def __init__(self, stele, data, before=(), **settings):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STELE_")}
        environment.update(STELE_ROOT_ACCESS_KEY=ACCESS, STELE_ROOT_SECRET_KEY=SECRET, STELE_LOG_LEVEL="error")
        environment.update({f"STELE_{name.upper()}": value for name, value in settings.items()})
        free = ["--s3-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]
        command = [*before, stele, "dev", "--json", "--data", str(data), *free]
        self.errors = pathlib.Path(f"{data}.stderr").open("ab")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors, env=environment, text=True
        )
        atexit.register(self.kill)
        line = self.process.stdout.readline()
        require(line, f"the store did not start: {self.words()}")
        ready = json.loads(line)
        require(ready["event"] == "ready", f"first line is {line}")
        self.url, self.admin = ready["s3"], ready["admin"]
        # Where the store made its certificate: what clients must trust.
        self.ca = ready.get("s3_ca")
        # Under strace the store is a child of what was started.
        self.pid = int(children(self.process.pid)[0]) if before else self.process.pid

    def words(self):
        """The last words on stderr."""
        return pathlib.Path(self.errors.name).read_text(errors="replace")[-2000:]

    def client(self, **config):
        """boto3 for this store. One attempt per call: a retry would hide what is tested."""
        config.setdefault("retries", {"max_attempts": 1, "mode": "standard"})
        config.setdefault("max_pool_connections", 64)
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            verify=self.ca,
            config=Config(s3={"addressing_style": "path"}, **config),
        )

    def page(self, path):
        with urllib.request.urlopen(f"{self.admin}{path}", timeout=10) as answer:
            return answer.read().decode()

    def status(self):
        return json.loads(self.page("/status"))

    def counter(self, name):
        """Sum of a metric over its labels."""
        rows = (line.rsplit(" ", 1) for line in self.page("/metrics").splitlines() if not line.startswith("#"))
        return sum(float(value) for key, value in rows if key.split("{")[0] == name)

    def rss_mib(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmRSS")

    def stop(self):
        """SIGTERM; it must end well."""
        os.kill(self.pid, signal.SIGTERM)
        code = self.process.wait(timeout=120)
        require(code == 0, f"SIGTERM ended with exit code {code}: {self.words()}")
        self.errors.close()

    def kill(self):
        if self.process.poll() is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except (AttributeError, ProcessLookupError):
                pass
            self.process.kill()
            self.process.wait()


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        found += (task / "children").read_text().split()
    return found


def wait_until(what, seconds, condition):
    """Polls until the condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        require(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(0.1)
