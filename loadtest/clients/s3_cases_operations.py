"""Cases of s3_suite.py: every operation of the service model does what docs/s3-compatibility.md says."""

import datetime
import pathlib
import re

from botocore import xform_name
from botocore.exceptions import ClientError

from s3_suite import case, equal

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/s3-compatibility.md"
# Not called at all: these go to other hosts than the endpoint's, or are older names of others.
ELSEWHERE = {"WriteGetObjectResponse", "GetBucketLifecycle", "GetBucketNotification", "PutBucketLifecycle", "PutBucketNotification"}


def table():
    """operation -> (state, note)"""
    rows = PAGE.read_text().split("<!-- begin operations -->")[1].split("<!-- end operations -->")[0]
    return {name: (state, note) for name, state, note in re.findall(r"^\| (\w+) \| ([\w ]+) \| ?(.*?) ?\|$", rows, re.M)}


def least(shape, t, name=""):
    """The smallest value that the service model takes."""
    if name == "Bucket":
        return t.bucket
    if shape.type_name == "structure":
        wanted = shape.required_members or list(shape.members)[:1]
        return {member: least(shape.members[member], t, member) for member in wanted}
    if shape.type_name == "list":
        return [least(shape.member, t)]
    if shape.type_name == "string":
        return shape.enum[0] if shape.enum else "x"
    simple = {"integer": 1, "long": 1, "boolean": True, "blob": b"x", "timestamp": datetime.datetime(2030, 1, 1)}
    return simple.get(shape.type_name, "x")


@case
def every_operation_of_the_model_does_what_the_page_says(t):
    t.put("x", b"kept")
    s3 = t.client(parameter_validation=False)
    model, listed = s3.meta.service_model, table()
    missing = set(model.operation_names) - set(listed) - ELSEWHERE
    equal(missing, set(), "operations that the page does not name")
    for name in sorted(set(model.operation_names) - ELSEWHERE):
        state, note = listed[name]
        if state not in ("refused", "one answer"):
            continue
        shape = model.operation_model(name).input_shape
        call = getattr(s3, xform_name(name))
        try:
            call(**(least(shape, t) if shape else {}))
            got = "an answer"
        except ClientError as error:
            got = f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}"
            assert error.response["Error"]["Message"], f"{name}: no text"
        wanted = re.match(r"\d{3} \w+", note)
        equal(got, wanted[0] if wanted else "an answer", name)
    equal(t.body("x"), b"kept", "what no operation changed")
