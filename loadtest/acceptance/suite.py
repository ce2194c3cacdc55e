#!/usr/bin/env python3
"""Starts a store and runs the S3 suite with its bad input against it (loadtest/clients/s3_suite.py), over
HTTP and, with another store, over HTTPS. Afterwards the store must still be well, and end well: bad
input never brings it down.

    suite.py --stele target/debug/stele --work DIR
"""

import os
import pathlib
import subprocess
import sys

from store import ACCESS, SECRET, Store, arguments, require


def run(args, scheme, **settings):
    # A budget of its own keeps the suite honest on large machines too.
    store = Store(args.stele, args.work / f"data-{scheme}", memory_budget="512MiB", s3_domains="s3.localhost", **settings)
    require(store.url.startswith(f"{scheme}://"), f"{store.url} is served instead of {scheme}")
    suite = pathlib.Path(__file__).resolve().parent.parent / "clients" / "s3_suite.py"
    environment = dict(os.environ, STELE_S3_URL=store.url, STELE_ROOT_ACCESS_KEY=ACCESS, STELE_ROOT_SECRET_KEY=SECRET)
    if store.ca:
        environment["AWS_CA_BUNDLE"] = store.ca
    ended = subprocess.run([sys.executable, str(suite)], env=environment, timeout=900)
    require(store.process.poll() is None, f"the store ended: {store.words()}")
    require("panicked" not in store.words(), store.words())
    require(ended.returncode == 0, f"the suite over {scheme} ended with exit code {ended.returncode}")
    store.stop()


def main():
    args = arguments(__doc__)
    run(args, "http")
    run(args, "https", s3_tls_local="true")


if __name__ == "__main__":
    main()
