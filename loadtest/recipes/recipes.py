#!/usr/bin/env python3
"""Other people's clients, unmodified, over HTTP and over HTTPS, as docs/recipes says.

For each client: runs the blocks of its page, then check_CLIENT.py, which asks more of the client than belongs on a
page and compares what is stored with what was sent. Every client has a folder, buckets and a home directory of its
own; a few run at a time.

    recipes.py --stele target/debug/stele --work DIR --input DIR [--scheme https] [--only rclone] [--but restic]
"""

import concurrent.futures
import os
import pathlib
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "acceptance"))

import page
from store import ACCESS, SECRET, Store, arguments, require, say

HERE = pathlib.Path(__file__).resolve().parent
PAGES = HERE.parents[1] / "docs/recipes"
# The folder of tools has one Python environment for clients and SDKs and one for table formats and what they need.
TOOLS = pathlib.Path(sys.prefix).parent
RECIPES = {
    "lance": "tables",
    "deltalake": "tables",
    "restic": "venv",
    "aws-cli": "venv",
    "boto3-crt": "tables",
    "boto3": "venv",
    "duckdb": "tables",
    "minio-py": "venv",
    "opendal": "tables",
    "pyarrow": "tables",
    "rclone": "venv",
    "s3cmd": "venv",
    "s5cmd": "venv",
    "s3s-e2e": "venv",
}
# A suite of tests, which nobody needs a page for.
WITHOUT_PAGE = {"s3s-e2e"}
# What the store is told for each.
SCHEMES = {"http": {}, "https": {"s3_tls_local": "true"}}
AT_A_TIME = 3
LIMIT_SECONDS = 300
INPUT_BYTES = 12 << 20


def real_files(folders, target):
    """Copies some of the real files: the smaller ones, and one that a client sends in parts."""
    target.mkdir()
    files = sorted((p for folder in folders for p in folder.rglob("*") if p.is_file()), key=lambda p: (p.stat().st_size, p))
    require(files, "no real files: --input")
    large = next((p for p in files if p.stat().st_size > 20 << 20), files[-1])
    taken = 0
    for number, path in enumerate(files):
        taken += path.stat().st_size
        if taken > INPUT_BYTES:
            break
        place = target / f"study-{number % 7}" / f"{number:03} {path.name}"
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
    with large.open("rb") as source:
        (target / "large.bin").write_bytes(source.read(20_000_000))


def environment(name, home, store, source):
    """What docs/recipes/README.md asks a user to set, and nothing of this machine's user."""
    kept = {k: os.environ[k] for k in ("LANG", "TMPDIR") if k in os.environ}
    bins = [str(TOOLS / folder / "bin") for folder in (RECIPES[name], "venv", "s3s-e2e")]
    kept.update(
        PATH=":".join([*bins, os.environ["PATH"]]),
        HOME=str(home),
        PYTHONDONTWRITEBYTECODE="1",
        PYTHONUNBUFFERED="1",
        INPUT=str(source),
        AWS_ACCESS_KEY_ID=ACCESS,
        AWS_SECRET_ACCESS_KEY=SECRET,
        AWS_REGION="us-east-1",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_ENDPOINT_URL=store.url,
        AWS_EC2_METADATA_DISABLED="true",
    )
    if store.ca:
        kept.update(AWS_CA_BUNDLE=store.ca, SSL_CERT_FILE=store.ca)
    return kept


def one(name, scheme, work, store, source):
    """Runs the page and the check; returns what went wrong, or None."""
    started = time.monotonic()
    home = work / scheme / name
    for folder in ("page", "check"):
        (home / folder).mkdir(parents=True)
    variables = environment(name, home, store, source)
    log = home / "page.log"
    wrong = None
    if name not in WITHOUT_PAGE:
        wrong = page.run(PAGES / f"{name}.md", variables, home / "page", log, LIMIT_SECONDS)
    wrong = wrong and f"docs/recipes/{name}.md over {scheme}: {wrong}"
    paged = time.monotonic()
    if not wrong:
        log = home / "check.log"
        check = ["python3", str(HERE / f"check_{name.replace('-', '_')}.py")]
        wrong = page.run_shell(check, variables, home / "check", log, LIMIT_SECONDS)
        wrong = wrong and f"check of {name} over {scheme}: {wrong}"
    ended = time.monotonic()
    if wrong:
        say(f"{name} over {scheme}: FAILED\n{log.read_text(errors='replace')[-6000:]}")
    else:
        say(f"{name} over {scheme}: the page works in {paged - started:.1f} s, the check holds in {ended - paged:.1f} s")
    return wrong


def main():
    options = [("--input", pathlib.Path, []), ("--scheme", str, []), ("--only", str, []), ("--but", str, [])]
    args = arguments(__doc__, *options)
    source = args.work / "input"
    real_files(args.input, source)
    unknown = {*args.only, *args.but} - RECIPES.keys()
    require(not unknown, f"no recipe has the name {unknown}")
    names = [name for name in args.only or RECIPES if name not in args.but]
    stores = {
        scheme: Store(args.stele, args.work / f"{scheme}-data", memory_budget="512MiB", **SCHEMES[scheme])
        for scheme in args.scheme or SCHEMES
    }
    jobs = [(name, scheme, args.work, store, source) for name in names for scheme, store in stores.items()]
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        wrong = list(filter(None, pool.map(lambda job: one(*job), jobs)))
    for store in stores.values():
        require(store.process.poll() is None and "panicked" not in store.words(), f"the store is not well: {store.words()}")
        store.stop()
    require(not wrong, "; ".join(wrong))
    say(f"all work over {' and '.join(stores)}: {', '.join(names)}")


main()
