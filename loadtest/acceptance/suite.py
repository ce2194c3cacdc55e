#!/usr/bin/env python3
"""Starts a store and runs the S3 suite with its bad input against it (loadtest/clients/s3_suite.py).
Afterwards the store must still be well, and end well: bad input never brings it down.

    suite.py --stele target/debug/stele --work DIR
"""

import os
import pathlib
import subprocess
import sys

from store import ACCESS, SECRET, Store, arguments, require


def main():
    args = arguments(__doc__)
    # A budget of its own keeps the suite honest on large machines too.
    store = Store(args.stele, args.work / "data", memory_budget="512MiB")
    suite = pathlib.Path(__file__).resolve().parent.parent / "clients" / "s3_suite.py"
    environment = dict(os.environ, STELE_S3_URL=store.url, STELE_ROOT_ACCESS_KEY=ACCESS, STELE_ROOT_SECRET_KEY=SECRET)
    ended = subprocess.run([sys.executable, str(suite)], env=environment, timeout=900)
    require(store.process.poll() is None, f"the store ended: {store.words()}")
    require("panicked" not in store.words(), store.words())
    require(ended.returncode == 0, f"the suite ended with exit code {ended.returncode}")
    store.stop()


if __name__ == "__main__":
    main()
