"""Runs docs/cluster.md: every `sh` block of the page, in order, in one shell that stops at the first command
that fails. Loopback only; everything that the shell started is ended by its process group."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

from store import arguments, require, say

PAGE = pathlib.Path(__file__).parents[2] / "docs/cluster.md"
LIMIT_SECONDS = 300


def script():
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    require(len(blocks) >= 8, f"{PAGE} has only {len(blocks)} blocks to run")
    steps = []
    for number, block in enumerate(blocks, 1):
        steps.append(f"echo '== block {number}' >&2\n{block}")
    return "set -euo pipefail\n" + "\n".join(steps) + "\necho '== the page is done' >&2\n"


def main():
    args = arguments(__doc__)
    work = args.work / "page"
    shutil.rmtree(work, ignore_errors=True)
    tools = args.work / "bin"
    tools.mkdir(exist_ok=True)
    link = tools / "stele"
    link.unlink(missing_ok=True)
    link.symlink_to(pathlib.Path(args.stele).resolve())
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("STELE_", "AWS_"))}
    clients = pathlib.Path(sys.executable).parent
    environment.update(WORK=str(work), PATH=f"{tools}:{clients}:{environment['PATH']}", STELE_LOG_LEVEL="info,openraft=error")
    log = (args.work / "page.log").open("w")
    shell = subprocess.Popen(
        ["bash", "-c", script()], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    try:
        code = shell.wait(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        code = f"no end within {LIMIT_SECONDS} s"
    finally:
        try:
            os.killpg(shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    text = (args.work / "page.log").read_text()
    if code != 0:
        say(text[-4000:])
        for one in sorted(work.glob("*.log")):
            say(f"{one.name}: {one.read_text()[-800:]}")
    require(code == 0 and "== the page is done" in text, f"the page does not work: {code}")
    say("every block of the page works")


main()
