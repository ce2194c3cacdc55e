"""Runs docs/cluster.md: every `sh` block of the page, in order, in one shell that stops at the first command
that fails. Loopback only; everything that the shell started is ended by its process group."""

import os
import pathlib
import shutil
import sys

import page
from store import arguments, require, say

PAGE = pathlib.Path(__file__).parents[2] / "docs/cluster.md"
LIMIT_SECONDS = 300


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
    require(len(page.blocks(PAGE)) >= 8, f"{PAGE} has only {len(page.blocks(PAGE))} blocks to run")
    log = args.work / "page.log"
    wrong = page.run(PAGE, environment, args.work, log, LIMIT_SECONDS)
    if wrong:
        say(log.read_text()[-4000:])
        for one in sorted(work.glob("*.log")):
            say(f"{one.name}: {one.read_text()[-800:]}")
    require(not wrong, f"the page does not work: {wrong}")
    say("every block of the page works")


main()
