#!/usr/bin/env python3
"""Durability is real, seen from the kernel's side with strace.

    durability.py --stele target/debug/stele --work DIR

1. No 200 leaves before its syncs returned. For each answer in turn: every byte written to a segment of
   a drive was followed by a sync of that segment that returned; as many drives as the pack has shards
   were synced; and after the last of these syncs one of the raft log began and returned.
2. A drive whose fdatasync fails once with EIO: the segment is never synced or written again, the
   drive is named, and PUTs go elsewhere or fail. What was acknowledged reads back, also after a restart.
3. A raft log whose sync fails once: no PUT is acknowledged any more and the process stops by itself.
   After a restart what was acknowledged is there.
"""

import os
import pathlib
import re
import signal
import subprocess
import time

from botocore.exceptions import BotoCoreError, ClientError

from store import BUCKET, Store, arguments, require, say, wait_until

SYNCS = {"fdatasync", "fsync"}
FILE_WRITES = {"pwrite64", "pwritev", "pwritev2", "write", "writev"}
ANSWERS = {"write", "writev", "sendto", "sendmsg"}
TRACED = sorted(SYNCS | FILE_WRITES | ANSWERS)

CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
TARGET = re.compile(r"^\d+<([^>]*)>")


class Call:
    """One system call: positions in the trace at which it began and returned."""

    def __init__(self, name, text, began):
        self.name, self.text, self.began, self.ended = name, text, began, None
        target = TARGET.match(text)
        self.target = target[1] if target else ""

    def result(self, text, position):
        self.ended, self.ok = position, not re.search(r"= -1 ", text)
        self.injected = "(INJECTED)" in text


def calls(path):
    """All calls of a trace. What strace saw first stands first, so positions are an order of time."""
    found, open_calls = [], {}
    for position, line in enumerate(path.read_text(errors="replace").splitlines()):
        if resumed := RESUMED.match(line):
            call = open_calls.pop(resumed[1], None)
            if call:
                call.result(resumed[3], position)
        elif begun := CALL.match(line):
            call = Call(begun[2], begun[3], position)
            found.append(call)
            if "<unfinished" in line:
                open_calls[begun[1]] = call
            else:
                call.result(begun[3], position)
    return found


def drive_of(call):
    """drive-3/seg-1 of a call on a segment, else nothing."""
    parts = pathlib.PurePosixPath(call.target).parts
    return "/".join(parts[-2:]) if len(parts) > 1 and parts[-2].startswith("drive-") and parts[-1].startswith("seg-") else None


def is_answer(call):
    return call.name in ANSWERS and "TCP" in call.target and '"HTTP/1.1 200' in call.text


def check_answers(trace, expected):
    """Walks the answers in order; `expected` names each request and the shards of its packs."""
    answers = [call for call in trace if is_answer(call)]
    require(len(answers) == len(expected), f"{len(answers)} answers with 200 for {len(expected)} requests")
    since = -1
    for (name, shards), answer in zip(expected, answers):
        window = [call for call in trace if since < call.began < answer.began]
        done = [call for call in window if call.name in SYNCS and call.ok and call.ended is not None and call.ended < answer.began]
        drives = {drive_of(call).split("/")[0] for call in done if drive_of(call)}
        require(len(drives) >= shards, f"{name}: {len(drives)} drives synced before its 200, {shards} shards")
        for write in window:
            segment = drive_of(write) if write.name in FILE_WRITES else None
            if segment:
                synced = any(drive_of(sync) == segment and sync.began > write.ended for sync in done)
                require(synced, f"{name}: 200 left while {segment} was not synced")
        last = max((call.ended for call in done if drive_of(call)), default=-1)
        raft = [call for call in done if call.target.endswith("raft-log.redb") and call.began > last]
        require(raft, f"{name}: 200 left without a sync of the raft log after those of the drives")
        since = answer.began
    return len(answers)


def prove_the_check(seen, expected):
    """The same trace without one kind of sync must be refused, or the check shows nothing."""
    without_drive = [call for call in seen if not (call.name in SYNCS and (drive_of(call) or "").startswith("drive-4"))]
    without_raft = [call for call in seen if not (call.name in SYNCS and call.target.endswith("raft-log.redb"))]
    for damaged in (without_drive, without_raft):
        try:
            check_answers(damaged, expected)
        except SystemExit:
            continue
        require(False, "the check accepts a trace in which syncs are missing")


def order_of_syncs(args):
    work = args.work / "order"
    trace = args.work / "order.trace"
    strace = ["strace", "-f", "-qq", "-yy", "-s", "40", "-e", "signal=none", "-e", f"trace={','.join(TRACED)}", "-o", str(trace)]
    store = Store(args.stele, work, before=strace)
    client = store.client(read_timeout=120)
    client.create_bucket(Bucket=BUCKET)
    # (what, shards that a pack of it has on six drives with two to spare)
    expected = [("CreateBucket", 0)]
    for size, count, shards in [(4 << 10, 15, 3), (100 << 10, 5, 3), (1 << 20, 5, 6), (20 << 20, 2, 6)]:
        for number in range(count):
            client.put_object(Bucket=BUCKET, Key=f"{size}-{number}", Body=os.urandom(size))
            expected.append((f"PUT {size} #{number}", shards))
    upload = {"Bucket": BUCKET, "Key": "parts"}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
    expected.append(("CreateMultipartUpload", 0))
    parts = []
    for number in (1, 2):
        part = client.upload_part(**upload, PartNumber=number, Body=os.urandom(5 << 20))
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
        expected.append((f"UploadPart {number}", 6))
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    expected.append(("CompleteMultipartUpload", 0))
    store.stop()
    seen = calls(trace)
    checked = check_answers(seen, expected)
    prove_the_check(seen, expected)
    trace.unlink()
    say(f"order: {checked} answers left after their syncs had returned")


class Injection:
    """Fails the first sync that one thread of the store makes from now on. No -f: it would add the others."""

    def __init__(self, store, thread, trace):
        tasks = pathlib.Path(f"/proc/{store.pid}/task").iterdir()
        found = [task for task in tasks if (task / "comm").read_text().strip() == thread]
        require(len(found) == 1, f"{len(found)} threads are called {thread}")
        self.trace = trace
        names = ",".join(sorted(SYNCS))
        traced = ["-e", f"trace={names},pwrite64,pwritev,pwritev2", "-e", f"inject={names}:error=EIO:when=1"]
        command = ["strace", "-qq", "-yy", "-s", "0", "-e", "signal=none", *traced, "-o", str(trace), "-p", found[0].name]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

        def attached():
            require(self.process.poll() is None, "strace may not attach to a running process here")
            return "TracerPid:\t0" not in (found[0] / "status").read_text()

        wait_until("strace attached", 20, attached)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=20)
        # strace writes lines of one thread without its number.
        text = "".join(line if line[:1].isdigit() else f"1 {line}" for line in self.trace.read_text().splitlines(True))
        self.trace.write_text(text)
        return calls(self.trace)


def put_some(client, prefix, count, size=8 << 10, seconds=60):
    """PUTs until `count` were tried; returns what was acknowledged and what was refused."""
    acknowledged, refused, end = {}, 0, time.monotonic() + seconds
    for number in range(count):
        key, body = f"{prefix}-{number}", os.urandom(size)
        try:
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
            acknowledged[key] = body
        except (ClientError, BotoCoreError):
            refused += 1
        if time.monotonic() > end:
            break
    return acknowledged, refused


def read_back(store, acknowledged):
    client = store.client()
    for key, body in acknowledged.items():
        require(client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body, f"{key} differs")


def failing_drive(args):
    data, trace = args.work / "drive", args.work / "drive.trace"
    store = Store(args.stele, data)
    client = store.client(read_timeout=60)
    client.create_bucket(Bucket=BUCKET)
    acknowledged, refused = put_some(client, "before", 20)
    require(refused == 0, f"{refused} PUTs refused by a healthy store")
    victim = store.status()["drives"][2]
    injection = Injection(store, f"commit-{victim['id'][:6]}", trace)
    during, refused = put_some(client, "during", 150)
    acknowledged.update(during)
    bad = [drive for drive in store.status()["drives"] if drive["state"] != "ok"]
    require([drive["name"] for drive in bad] == [victim["name"]], f"drives out of service: {bad}")
    require(store.counter("stele_drive_poisoned_segments_total") >= 1, "no segment was poisoned")
    require(len(during) >= 100, f"only {len(during)} PUTs went to other drives, {refused} refused")
    seen = injection.end()
    failed = [call for call in seen if call.name in SYNCS and getattr(call, "injected", False)]
    require(len(failed) == 1, f"{len(failed)} syncs failed, one was to")
    again = [call for call in seen if call.began > failed[0].began and drive_of(call) == drive_of(failed[0])]
    require(not again, f"{drive_of(failed[0])} was touched after its sync had failed: {[call.name for call in again][:3]}")
    read_back(store, acknowledged)
    store.stop()
    store = Store(args.stele, data)
    read_back(store, acknowledged)
    store.stop()
    say(f"drive: {drive_of(failed[0])} poisoned, {len(during)} PUTs on other drives, {refused} refused, all read back")


def failing_raft_log(args):
    data, trace = args.work / "raft", args.work / "raft.trace"
    store = Store(args.stele, data)
    client = store.client(read_timeout=20)
    client.create_bucket(Bucket=BUCKET)
    acknowledged, refused = put_some(client, "before", 20)
    require(refused == 0, f"{refused} PUTs refused by a healthy store")
    injection = Injection(store, "raft-log", trace)
    during, refused = put_some(client, "during", 5)
    wait_until("the process stopped by itself", 60, lambda: store.process.poll() is not None)
    seen = injection.end()
    failed = [call for call in seen if getattr(call, "injected", False)]
    require(len(failed) == 1, f"{len(failed)} syncs failed, one was to")
    require(store.process.returncode != 0, "the process ended with exit code 0")
    later = [call for call in seen if call.name in SYNCS and call.ok and call.began > failed[0].began]
    require(not (during and later), f"{len(during)} PUTs were acknowledged after a retried sync")
    require(not during, f"{len(during)} PUTs were acknowledged although the raft log can't be synced")
    store = Store(args.stele, data)
    read_back(store, acknowledged)
    store.stop()
    say(f"raft log: stopped with an error after one failed sync, {refused} PUTs refused, all read back")


def main():
    args = arguments(__doc__)
    order_of_syncs(args)
    failing_drive(args)
    failing_raft_log(args)


if __name__ == "__main__":
    main()
