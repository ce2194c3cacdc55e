"""How long writes through one gateway stand still: small PUTs all the time, each with little patience, and the
longest time without one that succeeded. Imported by cluster.py."""

import http.client
import threading
import time

from history import NotSent, Wire

# Several at once, so that one request that hangs does not look like an outage.
THREADS = 3
PATIENCE_SECONDS = 1.0
PAUSE_SECONDS = 0.05


class Prober:
    def __init__(self, url, bucket, credentials):
        self.url, self.bucket, self.credentials = url, bucket, credentials
        self.stopping, self.lock, self.successes = threading.Event(), threading.Lock(), []
        self.threads = [threading.Thread(target=self.probe, args=(n,), daemon=True) for n in range(THREADS)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def probe(self, number):
        wire, path = Wire(*self.credentials, PATIENCE_SECONDS), f"/{self.bucket}/outage/{number}"
        while not self.stopping.wait(PAUSE_SECONDS):
            try:
                status, _, _ = wire.call(self.url, "PUT", path, body=b"still there")
            except (NotSent, OSError, http.client.HTTPException):
                continue
            if status == 200:
                with self.lock:
                    self.successes.append(time.monotonic())

    def stop(self):
        """The moments of success."""
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        return sorted(self.successes)


def outage(successes, began, ended):
    """The longest time without a success between two moments."""
    inside = [moment for moment in successes if began < moment < ended]
    moments = [began, *inside, ended]
    return max(later - earlier for earlier, later in zip(moments, moments[1:]))
