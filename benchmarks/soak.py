"""The ingestion service under a burst and over time: how fast, nothing lost, and whose memory grows.

python -m benchmarks.soak [--preset pico] [--burst 1000] [--seconds 600] [--rate 2] [--json FILE]

First `burst` images are uploaded as fast as they go, and waited for; a full listing then says whether one is missing.
After that, for `seconds`, `rate` images a second are uploaded, overwriting the same hundred keys. Every five seconds
the resident memory of watcher (this process, with the benchmark), coordinator, Prefect's server and workers is read.
The slope is the least-squares line through the second half of each part, in MB an hour, with its standard error.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import searchanything
from benchmarks import measuring
from benchmarks.service import jpeg, started
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.service.tree import ServiceTree
from searchanything.stores.s3 import S3Store

KEYS = 100
SAMPLE_S = 5.0
UPLOADERS = 8
SETTLE_S = 300.0
LOOK_S = 2.0
SAY_S = 60.0


class MemoryLog(threading.Thread):
    """Reads the memory of the service's parts, in MB, until `stop`."""

    def __init__(self, tree: ServiceTree) -> None:
        super().__init__(daemon=True)
        self._tree = tree
        self._ended = threading.Event()
        self.samples: list[dict[str, float]] = []

    def run(self) -> None:
        """A sample every few seconds."""
        while not self._ended.wait(SAMPLE_S):
            with suppress(psutil.Error, KeyError):  # a process that was just replaced
                self.samples.append({"at_s": time.monotonic(), **memory_mb(self._tree)})

    def stop(self) -> list[dict[str, float]]:
        """All samples, in seconds since the first."""
        self._ended.set()
        self.join()
        first = self.samples[0]["at_s"] if self.samples else 0.0
        return [one | {"at_s": one["at_s"] - first} for one in self.samples]


def memory_mb(tree: ServiceTree) -> dict[str, float]:
    """Resident memory of each part. Dask's scheduler lives in the coordinator; a worker's nanny, too."""
    coordinator = psutil.Process(int(tree.notes["pid"]))
    workers = coordinator.children(recursive=True)
    prefect = psutil.Process(tree.pids["prefect"])
    return {
        "watcher": _mb([psutil.Process(os.getpid())]),
        "coordinator": _mb([coordinator]),
        "workers": _mb(workers),
        "prefect": _mb([prefect, *prefect.children(recursive=True)]),
    }


def slopes(samples: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """MB an hour of each part over the later half of the samples, with the standard error of the slope."""
    later = [one for one in samples if one["at_s"] >= samples[-1]["at_s"] / 2] if samples else []
    if len(later) < 3:
        return {}
    hours = np.array([one["at_s"] for one in later]) / 3600
    found = {}
    for part in later[0].keys() - {"at_s"}:
        values = np.array([one[part] for one in later])
        (slope, _), residuals, *_ = np.polyfit(hours, values, 1, full=True)
        spread = float(residuals[0]) / (len(later) - 2) if len(residuals) else 0.0
        error = (spread / float(((hours - hours.mean()) ** 2).sum())) ** 0.5
        ends = {"first": samples[0][part], "last": float(values[-1])}
        found[part] = {"mb_per_hour": float(slope), "error": error, **ends}
    return found


def known(client: searchanything.Client) -> int:
    """Images that the index tells something of, be it that they failed."""
    status = client.status()
    return status.images + status.empty + status.failed


def burst(client: searchanything.Client, store: S3Store, images: Sequence[bytes], count: int) -> dict[str, Any]:
    """Upload so many images at once, wait for their rows while more come; the seconds, what failed, what is missing."""
    before, start = known(client), time.monotonic()
    with ThreadPoolExecutor(UPLOADERS) as pool:
        list(pool.map(lambda n: store.upload(f"burst/{n:06}.jpg", images[n % len(images)]), range(count)))
    uploaded = said = moved = time.monotonic()
    last = before
    while (now := known(client)) < before + count and time.monotonic() - moved < SETTLE_S:
        if now != last:
            last, moved = now, time.monotonic()
        if time.monotonic() - said > SAY_S:
            said = time.monotonic()
            print(f"{said - start:.0f} s: {now - before} of {count}", flush=True)
        time.sleep(LOOK_S)
    ended = time.monotonic()
    settled_s = until_settled(client)
    return {
        "images": count,
        "upload_s": uploaded - start,
        "until_indexed_s": ended - start,
        "missing": before + count - now,
        "failed": client.status().failed,
        "settled_s": settled_s,
    }


def until_settled(client: searchanything.Client) -> float | None:
    """Seconds until listing and index agree, the last uploads being under way; None where they do not."""
    start = time.monotonic()
    while client.sync("s3://images").differs:
        if time.monotonic() - start > SETTLE_S:
            return None
        time.sleep(1.0)
    return time.monotonic() - start


def soak(store: S3Store, images: Sequence[bytes], *, seconds: float, rate: float) -> int:
    """Overwrite the same keys at a steady rate; how many uploads that were."""
    start, done = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        store.upload(f"soak/{done % KEYS:03}.jpg", images[(done * 7 + done // KEYS) % len(images)])
        done += 1
        time.sleep(max(0.0, start + done / rate - time.monotonic()))
    return done


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--burst", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=2.0, help="uploads a second")
    options = parser.parse_args()
    images = [jpeg(scene.image) for _, scene in generate_demo_scenes(40, seed=1)]
    with tempfile.TemporaryDirectory() as name, ExitStack() as open_:
        settings, store, tree = started(Path(name), options.preset, open_)
        client = open_.enter_context(searchanything.connect(settings=settings))
        memory = MemoryLog(tree)
        memory.start()
        fast = burst(client, store, images, options.burst)
        fast |= memory_of(memory.stop())
        print(
            f"burst of {options.burst}: uploaded in {fast['upload_s']:.1f} s, indexed after"
            f" {fast['until_indexed_s']:.1f} s, {fast['missing']} missing, {fast['failed']} failed;"
            f" {agreement(fast['settled_s'])}",
            flush=True,
        )
        print_slopes(fast)
        result: dict[str, Any] = {"burst": fast}
        if options.seconds > 0:
            memory = MemoryLog(tree)
            memory.start()
            uploads = soak(store, images, seconds=options.seconds, rate=options.rate)
            result |= {"uploads": uploads} | memory_of(memory.stop()) | {"settled_s": until_settled(client)}
            print(f"soak: {uploads} uploads in {options.seconds:.0f} s; {agreement(result['settled_s'])}")
            print_slopes(result)
    measuring.write(result, options.json)


def memory_of(samples: list[dict[str, float]]) -> dict[str, Any]:
    """The samples with their slopes."""
    return {"slopes": slopes(samples), "samples": samples}


def agreement(settled_s: float | None) -> str:
    """Whether listing and index agree in the end."""
    if settled_s is None:
        return f"listing and index still differ after {SETTLE_S:.0f} s"
    return f"listing and index agree {settled_s:.0f} s later"


def print_slopes(result: Mapping[str, Any]) -> None:
    """A line for each part's memory."""
    for part, one in sorted(result["slopes"].items()):
        growth = f"{one['mb_per_hour']:+.0f} ± {one['error']:.0f} MB/h"
        print(f"{part:12} {one['first']:7.0f} → {one['last']:7.0f} MB   {growth}", flush=True)


def _mb(processes: Sequence[psutil.Process]) -> float:
    return float(sum(one.memory_info().rss for one in processes)) / 1e6


if __name__ == "__main__":
    main()
