"""Cases of s3_suite.py: buckets that keep versions."""

import random
import urllib.parse
import xml.etree.ElementTree

from s3_suite import answered, case, equal, refused


def keep(t, status="Enabled"):
    t.s3.put_bucket_versioning(Bucket=t.bucket, VersioningConfiguration={"Status": status})
    equal(t.s3.get_bucket_versioning(Bucket=t.bucket).get("Status"), status)


def listed(t, prefix="", size=1000):
    """(key, id, is latest, is marker) of every version, page by page, in the order of the XML."""
    rows, after = [], {}
    while True:
        query = urllib.parse.urlencode({"versions": "", "prefix": prefix, "max-keys": size, **after}, quote_via=urllib.parse.quote)
        answer = t.raw.call("GET", t.path, query)
        equal(answer.status, 200, answer.body[:300])
        page = xml.etree.ElementTree.fromstring(answer.body)
        text = lambda element, name: element.findtext(f"{{*}}{name}")
        found = [entry for entry in page if entry.tag.rpartition("}")[2] in ("Version", "DeleteMarker")]
        assert len(found) <= size, f"{len(found)} rows on a page of {size}"
        rows += [
            (text(entry, "Key"), text(entry, "VersionId"), text(entry, "IsLatest") == "true", entry.tag.endswith("Marker"))
            for entry in found
        ]
        if text(page, "IsTruncated") != "true":
            return rows
        after = {"key-marker": text(page, "NextKeyMarker"), "version-id-marker": text(page, "NextVersionIdMarker") or ""}


def delete(t, key, **more):
    return t.s3.delete_object(Bucket=t.bucket, Key=key, **more)


def empty(t):
    for key, version, _, _ in listed(t):
        delete(t, key, VersionId=version)


@case
def every_put_makes_a_version_that_can_be_read_and_removed(t):
    assert "VersionId" not in t.put("before", b"0"), "no version ids before versioning"
    keep(t)
    one, two = t.put("k", b"one")["VersionId"], t.put("k", b"two")["VersionId"]
    assert one != two
    equal(t.body("k"), b"two")
    equal(t.get("k")["VersionId"], two)
    equal(t.body("k", VersionId=one), b"one")
    equal(t.head("k", VersionId=one)["VersionId"], one)
    equal(t.body("before", VersionId="null"), b"0")
    equal(t.get("before")["VersionId"], "null")
    _, _, done = t.upload("k", [b"three"])
    equal(t.body("k", VersionId=done["VersionId"]), b"three")
    copied = t.s3.copy_object(Bucket=t.bucket, Key="copy", CopySource={"Bucket": t.bucket, "Key": "k", "VersionId": one})
    equal((copied["CopySourceVersionId"], t.body("copy", VersionId=copied["VersionId"])), (one, b"one"))
    gone = delete(t, "k", VersionId=done["VersionId"])
    equal((gone["VersionId"], gone.get("DeleteMarker")), (done["VersionId"], None))
    equal(t.body("k"), b"two")
    refused("NoSuchVersion", t.get, "k", VersionId=done["VersionId"], status=404)
    refused("InvalidArgument", t.get, "k", VersionId="not/an id", status=400)
    empty(t)


@case
def a_delete_marker_hides_a_key_until_it_is_removed(t):
    keep(t)
    version = t.put("k", b"one")["VersionId"]
    gone = delete(t, "k")
    equal(gone["DeleteMarker"], True)
    marker = gone["VersionId"]
    answer = t.raw.call("GET", f"{t.path}/k")
    answered(answer, 404, "NoSuchKey")
    equal((answer.headers["x-amz-delete-marker"], answer.headers["x-amz-version-id"]), ("true", marker))
    answer = t.raw.call("HEAD", f"{t.path}/k")
    equal((answer.status, answer.headers["x-amz-delete-marker"]), (404, "true"))
    answer = t.raw.call("GET", f"{t.path}/k", f"versionId={marker}")
    answered(answer, 405, "MethodNotAllowed")
    equal((answer.headers["allow"], answer.headers["x-amz-delete-marker"]), ("DELETE", "true"))
    assert answer.headers["last-modified"]
    equal(t.keys(), [])
    equal(t.body("k", VersionId=version), b"one")
    removed = delete(t, "k", VersionId=marker)
    equal((removed["DeleteMarker"], removed["VersionId"]), (True, marker))
    equal(t.body("k"), b"one")
    equal(t.keys(), ["k"])
    # A key that never was gets a marker too, and a precondition sees through markers.
    equal(delete(t, "never")["DeleteMarker"], True)
    equal(t.put("never", b"now", IfNoneMatch="*")["ResponseMetadata"]["HTTPStatusCode"], 200)
    refused("PreconditionFailed", t.put, "never", b"again", IfNoneMatch="*", status=412)
    refused("BucketNotEmpty", t.s3.delete_bucket, Bucket=t.bucket, status=409)
    empty(t)


@case
def suspended_versioning_writes_the_null_version_and_keeps_the_others(t):
    t.put("k", b"unversioned")
    keep(t)
    kept = t.put("k", b"kept")["VersionId"]
    keep(t, "Suspended")
    equal(t.put("k", b"null again").get("VersionId"), "null")
    equal([row[1] for row in listed(t)], ["null", kept])
    equal(t.body("k", VersionId="null"), b"null again")
    gone = delete(t, "k")
    equal((gone["DeleteMarker"], gone["VersionId"]), (True, "null"))
    equal([(row[1], row[3]) for row in listed(t)], [("null", True), (kept, False)])
    refused("NoSuchKey", t.get, "k", status=404)
    equal(delete(t, "k", VersionId="null")["DeleteMarker"], True)
    equal(t.body("k"), b"kept")
    refused("IllegalVersioningConfigurationException", t.s3.put_bucket_versioning, Bucket=t.bucket,
            VersioningConfiguration={}, status=400)
    refused("NotImplemented", t.s3.put_bucket_versioning, Bucket=t.bucket, MFA="serial 123456",
            VersioningConfiguration={"Status": "Enabled", "MFADelete": "Enabled"}, status=501)
    empty(t)


@case
def deleting_many_versions_answers_for_each(t):
    keep(t)
    one, two = t.put("a", b"1")["VersionId"], t.put("a", b"2")["VersionId"]
    objects = [{"Key": "a", "VersionId": one}, {"Key": "a"}, {"Key": "b"}]
    answer = t.s3.delete_objects(Bucket=t.bucket, Delete={"Objects": objects})
    rows = {(row["Key"], row.get("VersionId")): row for row in answer["Deleted"]}
    assert "DeleteMarker" not in rows["a", one]
    marker = rows["a", None]["DeleteMarkerVersionId"]
    equal(rows["a", None]["DeleteMarker"], True)
    equal(rows["b", None]["DeleteMarker"], True)
    removed = t.s3.delete_objects(Bucket=t.bucket, Delete={"Objects": [{"Key": "a", "VersionId": marker}]})["Deleted"][0]
    equal((removed["DeleteMarker"], removed["DeleteMarkerVersionId"], removed["VersionId"]), (True, marker, marker))
    equal(t.get("a")["VersionId"], two)
    empty(t)


class Model:
    """Versions by definition: key -> [(id, is marker, body)], newest first."""

    def __init__(self):
        self.keys = {}

    def add(self, key, version, marker, body):
        versions = self.keys.setdefault(key, [])
        if version == "null":
            versions[:] = [row for row in versions if row[0] != "null"]
        versions.insert(0, (version, marker, body))

    def remove(self, key, version):
        self.keys[key] = [row for row in self.keys.get(key, []) if row[0] != version]

    def rows(self, prefix=""):
        return [
            (key, version, place == 0, marker)
            for key in sorted(self.keys) if key.startswith(prefix)
            for place, (version, marker, _) in enumerate(self.keys[key])
        ]


@case
def version_listings_agree_with_a_model_however_they_are_paged(t):
    rng, model = random.Random(41), Model()
    names = ["a", "a/b", "a/c", "b", "ü", "z z"]
    for step in range(160):
        if step == 20:
            keep(t)
        elif step > 20 and rng.random() < 0.05:
            keep(t, rng.choice(["Enabled", "Suspended"]))
        key = rng.choice(names)
        known = [version for version, _, _ in model.keys.get(key, [])]
        if rng.random() < 0.55:
            body = str(step).encode()
            model.add(key, t.put(key, body).get("VersionId", "null"), False, body)
        elif known and rng.random() < 0.4:
            version = rng.choice(known)
            delete(t, key, VersionId=version)
            model.remove(key, version)
        elif step < 20:
            delete(t, key)
            model.keys.pop(key, None)
        else:
            model.add(key, delete(t, key)["VersionId"], True, None)
    for size in (1000, 1, 2, 3, 7):
        equal(listed(t, size=size), model.rows(), f"pages of {size}")
    equal(listed(t, "a/", 2), model.rows("a/"))
    for key, versions in model.keys.items():
        for version, marker, body in versions:
            if not marker:
                equal(t.body(key, VersionId=version), body, f"{key} {version}")
    current = sorted(key for key, versions in model.keys.items() if versions and not versions[0][1])
    equal(t.keys(), current)
    empty(t)
