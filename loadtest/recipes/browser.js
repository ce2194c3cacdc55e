// What check_browser.py runs in Chromium: the code of docs/recipes/browser.md, on a real file, and what a page of
// another origin meets. Reports to the server that the page came from.
import { connect, download, post, upload } from "./upload.js";

async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function main() {
  const settings = await (await fetch("/settings")).json();
  const s3 = connect(settings);
  const found = {};
  for (const name of settings.files) {
    const body = await (await fetch(`/input/${encodeURIComponent(name)}`)).arrayBuffer();
    let progressed = 0;
    await upload(s3, new File([body], name), (loaded) => (progressed = loaded));
    found[name] = { size: progressed, sha256: await digest(await download(s3, name)) };
  }
  const [small, large] = await Promise.all(
    settings.files.map(async (name) => new File([await (await fetch(`/input/${encodeURIComponent(name)}`)).arrayBuffer()], name)),
  );
  found.posted = (await post(settings.form, small)).status;
  found.refused = (await post(settings.form, large)).status;
  // Headers that are no part of the simple ones: seen only if the bucket exposes them.
  const seen = await fetch(settings.link);
  found.root = seen.headers.get("x-stele-object-root");
  found.hidden = seen.headers.get("x-amz-request-id");
  return found;
}

main()
  .catch((error) => ({ error: `${error.name}: ${error.message}` }))
  .then((result) => fetch("/result", { method: "POST", body: JSON.stringify(result) }));
