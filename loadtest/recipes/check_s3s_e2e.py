"""s3s-e2e: another project's suite of tests of S3 servers, with the AWS SDK for Rust. Every case passes but the one that
wants temporary credentials, which Stele does not hand out."""

import json
import subprocess

from stored import require

REFUSED = {"Advanced/STS/test_assume_role"}


def cases(report):
    """Names of the cases, and whether they passed."""
    found = {}
    for suite in report["suites"]:
        for fixture in suite["fixtures"]:
            for case in fixture["cases"]:
                found[f"{suite['name']}/{fixture['name']}/{case['name']}"] = case["passed"]
    return found


def main():
    done = subprocess.run(["s3s-e2e", "--json", "report.json"], capture_output=True, text=True)
    with open("report.json") as file:
        found = cases(json.load(file))
    print(done.stdout)
    failed = {name for name, passed in found.items() if not passed}
    require(len(found) >= 18 and failed == REFUSED, f"failed of {len(found)}: {failed}")


main()
