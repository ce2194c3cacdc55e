"""A browser: the code of the page, bundled, sends a small file and one in parts from another origin and reads them back
in headless Chromium. A page of an origin that the bucket does not name gets nothing through."""

import hashlib
import http.server
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import threading
import urllib.parse

from stored import ENDPOINT, INPUT, client, keys, require, run

HERE = pathlib.Path(__file__).resolve().parent
RECIPE = HERE.parents[1] / "docs/recipes/browser.md"
BUCKET = "browser-demo"
SMALL, LARGE = "報告 one.txt", "large.bin"
LIMIT_SECONDS = 120
ANSWERS = queue.Queue()


class Origin(http.server.BaseHTTPRequestHandler):
    """Serves the bundle, the files to send and where to; takes what the page reports."""

    settings = {}

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if path == "/":
            self.answer(b'<!doctype html><meta charset="utf-8"><script type="module" src="/bundle.js"></script>', "text/html")
        elif path == "/bundle.js":
            self.answer(pathlib.Path("bundle.js").read_bytes(), "text/javascript")
        elif path == "/settings":
            self.answer(json.dumps(self.settings).encode(), "application/json")
        elif path.startswith("/input/"):
            self.answer(files()[path.removeprefix("/input/")], "application/octet-stream")
        else:
            self.send_error(404)

    def do_POST(self):
        ANSWERS.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.answer(b"", "text/plain")

    def answer(self, body, kind):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def files():
    return {SMALL: "all is well".encode(), LARGE: (INPUT / "large.bin").read_bytes()}


def blocks(language, count):
    """The code of the page."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", RECIPE.read_text(), re.MULTILINE | re.DOTALL)
    require(len(found) == count, f"{RECIPE} has {len(found)} blocks of {language}")
    return found


def signed_form():
    """What the page's server would make."""
    names = {}
    exec(blocks("python", 1)[0], names)
    return names["form"]


def bundle():
    pathlib.Path("upload.js").write_text("\n".join(blocks("js", 2)))
    shutil.copyfile(HERE / "browser.js", "browser.js")
    modules = pathlib.Path(os.environ["NODE_MODULES"])
    run(
        modules / ".bin/esbuild", "browser.js", "--bundle", "--format=esm", "--platform=browser", "--outfile=bundle.js",
        "--log-level=warning", NODE_PATH=str(modules),
    )


def trust():
    """Makes Chromium trust the store's CA, as a person would."""
    if "AWS_CA_BUNDLE" in os.environ:
        database = pathlib.Path(os.environ["HOME"]) / ".pki/nssdb"
        database.mkdir(parents=True)
        run("certutil", "-d", f"sql:{database}", "-N", "--empty-password")
        run("certutil", "-d", f"sql:{database}", "-A", "-t", "C,,", "-n", "stele", "-i", os.environ["AWS_CA_BUNDLE"])


def visit(url):
    """What the page at `url` reports."""
    words = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"]
    words += [f"--user-data-dir={pathlib.Path('profile').resolve()}", "--enable-logging=stderr", "--log-level=0"]
    if os.geteuid() == 0:
        words.append("--no-sandbox")
    with open("chromium.log", "a") as log:
        browser = subprocess.Popen(["chromium", *words, url], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            return ANSWERS.get(timeout=LIMIT_SECONDS)
        except queue.Empty:
            lines = pathlib.Path("chromium.log").read_text(errors="replace").splitlines()
            require(False, "nothing from the page; " + "\n".join(line for line in lines if "CONSOLE" in line or "ERROR" in line))
        finally:
            browser.terminate()
            browser.wait(timeout=30)


def main():
    bundle()
    trust()
    origin = os.environ["ORIGIN"]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", urllib.parse.urlsplit(origin).port), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    s3 = client(signature_version="s3v4")
    Origin.settings = {
        "endpoint": ENDPOINT,
        "region": "us-east-1",
        "credentials": {
            "accessKeyId": os.environ["AWS_ACCESS_KEY_ID"],
            "secretAccessKey": os.environ["AWS_SECRET_ACCESS_KEY"],
        },
        "files": list(files()),
        "form": signed_form(),
        "link": s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": SMALL}, ExpiresIn=600),
    }

    refused = visit(origin.replace("localhost", "127.0.0.1") + "/")
    require("Failed to fetch" in refused.get("error", ""), f"an origin that is not allowed: {refused}")
    require(keys(BUCKET) == [], "an origin that is not allowed stored something")

    found = visit(origin + "/")
    for name, body in files().items():
        wanted = {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        require(found.get(name) == wanted, f"{name}: {found}")
        require(s3.get_object(Bucket=BUCKET, Key=name)["Body"].read() == body, f"{name} is stored with other bytes")
    etag = s3.head_object(Bucket=BUCKET, Key=LARGE)["ETag"]
    require("-" in etag, f"not sent in parts: {etag}")
    equal = [found["posted"], found["refused"], s3.get_object(Bucket=BUCKET, Key=f"in/{SMALL}")["Body"].read()]
    require(equal == [204, 400, files()[SMALL]], f"the form: {equal}")
    require(re.fullmatch("[0-9a-f]{64}", found["root"] or ""), f"the exposed header is {found['root']}")
    require(found["hidden"] is None, f"a header that is not exposed is seen: {found['hidden']}")


main()
