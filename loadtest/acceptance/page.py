"""Runs the code blocks of a page of docs/: every `sh` and `python` block, in order, in one shell that stops at the
first command that fails. A `python` block is a program of its own. Whatever the shell started is ended with its
process group. Used by cluster_page.py and by loadtest/recipes."""

import os
import re
import signal
import subprocess

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DONE = "== the page is done"
END_OF_BLOCK = "END_OF_A_BLOCK_OF_THE_PAGE"


def blocks(page):
    """The blocks of a page as commands of a shell."""
    found = []
    for language, text in BLOCK.findall(page.read_text()):
        found.append(text if language == "sh" else f"python3 - <<'{END_OF_BLOCK}'\n{text}{END_OF_BLOCK}\n")
    return found


def run(page, environment, folder, log, seconds):
    """Runs the page in `folder`; output goes to `log`. Returns what went wrong, or None."""
    steps = [f"echo '== block {number}' >&2\n{block}" for number, block in enumerate(blocks(page), 1)]
    if not steps:
        return "there is nothing to run"
    script = "set -euo pipefail\n" + "\n".join(steps) + f"\necho '{DONE}' >&2\n"
    return run_shell(["bash", "-c", script], environment, folder, log, seconds) or (
        None if DONE in log.read_text(errors="replace") else "the shell ended before the page"
    )


def run_shell(command, environment, folder, log, seconds):
    """Runs a command and ends everything it started. Returns what went wrong, or None."""
    with log.open("w") as out:
        shell = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            code = shell.wait(timeout=seconds)
            return None if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            return f"no end within {seconds} s"
        finally:
            try:
                os.killpg(shell.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
