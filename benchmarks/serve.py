"""`searchanything serve` on this machine: how soon a click is answered, and how it bears many who ask at once.

python benchmarks/serve.py [--scenes 24] [--regions 100000] [--clients 200] [--seconds 60] [--uploads 20] [--json FILE]

An index of demo scenes (pico), padded with random regions, in Milvus Lite; the server is a process of its own, asked
over loopback. `beyond_index_ms` is what a stored-region query takes besides the questions to the index. Hovering asks
nobody: tests/ui/test_page.py counts the requests.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import searchanything
from benchmarks import measuring
from benchmarks.index_rows import image_row, region_row
from searchanything import wiring
from searchanything.core.codes import next_generation
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import ImageRef
from searchanything.demo.scenes import generate_demo_scenes

REGIONS_AN_IMAGE = 25
START_S = 180.0
CLICKS = 40


def make_index(folder: Path, *, scenes: int, regions: int) -> tuple[str, str]:
    """Index demo scenes, pad with random regions; the index's file and the bucket of the scenes."""
    images, uri = folder / "images", str(folder / "index.db")
    images.mkdir()
    for name, scene in generate_demo_scenes(scenes, seed=5):
        Image.fromarray(scene.image).save(images / name, quality=90)
    with searchanything.connect(uri, preset="pico") as client:
        client.index(images)
        fingerprint = client.manifest.fingerprint
    with wiring.open_index_store(MilvusSettings(uri=uri)) as store:
        index = store.open(fingerprint)
        random, bits, made = np.random.default_rng(0), index.manifest.bits, next_generation()
        for first in range(0, regions // REGIONS_AN_IMAGE, 100):
            some = [ImageRef("padding", f"{number:08d}.jpg") for number in range(first, first + 100)]
            codes = random.integers(0, 256, (len(some) * REGIONS_AN_IMAGE, bits // 8), dtype=np.uint8)
            places = zip(product(some, range(REGIONS_AN_IMAGE)), codes, strict=True)
            index.insert_regions([region_row(image, made, number, code.tobytes()) for (image, number), code in places])
            whole = codes[0].tobytes()
            index.insert_images([image_row(image, made, whole, regions=REGIONS_AN_IMAGE) for image in some])
    return uri, str(images)


@contextlib.contextmanager
def server(uri: str, folder: Path) -> Iterator[tuple[int, int]]:
    """A server process: its port and process number."""
    program = "import sys; from searchanything.cli.app import run; sys.exit(run(sys.argv[1:]))"
    log = (folder / "serve.log").open("w+")
    command = [sys.executable, "-c", program, "serve", "--uri", uri, "--port", "0"]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline, found = time.monotonic() + START_S, None
        while found is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start: {(folder / 'serve.log').read_text()[-800:]}")
            time.sleep(0.2)
            found = re.search(r"http://127\.0\.0\.1:(\d+)", (folder / "serve.log").read_text())
        port = int(found[1])
        while not json.loads(ask(http.client.HTTPConnection("127.0.0.1", port), "GET", "/readyz")[1])["models_loaded"]:
            time.sleep(0.2)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: dict[str, Any] | bytes | None = None
) -> tuple[int, bytes, float]:
    """Status, body and milliseconds of one request. `body` is JSON, or bytes as they are."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if data is not None else {}
    start = time.perf_counter()
    connection.request(method, path, data, headers)
    response = connection.getresponse()
    read = response.read()
    return response.status, read, 1000 * (time.perf_counter() - start)


def clicks(port: int, bucket: str, keys: list[str]) -> dict[str, float]:
    """Medians of a click on a stored region, and on a point that the models look at, each image once opened."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    stored, beyond, pointed = [], [], []
    for number in range(CLICKS):
        image = {"bucket": bucket, "key": keys[number % len(keys)]}
        status, data, spent = ask(connection, "POST", "/v1/query", {"image": image | {"region": 0}, "limit": 24})
        if status != 200:
            raise SystemExit(f"status {status}: {data.decode()}")
        stored.append(spent)
        beyond.append(spent - sum(json.loads(data)["timings_ms"].values()))
        point = {"kind": "points", "foreground": [[200 + number % 40, 200]]}
        opened = [ask(connection, "POST", "/v1/query", {"image": image, "prompt": point})[2] for _ in range(2)]
        pointed.append(opened[1])
    connection.close()
    return {
        "stored_region_ms": round(statistics.median(stored), 1),
        "beyond_index_ms": round(statistics.median(beyond), 1),
        "point_on_opened_image_ms": round(statistics.median(pointed), 1),
    }


def load(port: int, process: int, image: dict[str, Any], *, clients: int, seconds: float) -> dict[str, Any]:
    """Many who ask by stored regions at once: answers, their times, and the server's memory before and after."""
    statuses: Counter[int | str] = Counter()
    times: list[float] = []
    lock, end = threading.Lock(), time.monotonic() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.monotonic() < end:
            try:
                status, _, spent = ask(connection, "POST", "/v1/query", {"image": image, "limit": 24})
            except (OSError, http.client.HTTPException) as error:
                status, spent = 0, 0.0
                connection.close()
                statuses[type(error).__name__] += 1
            with lock:
                statuses[status] += 1
                times.append(spent)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 3)
    early = resident_mb(process)
    for thread in threads:
        thread.join()
    late = resident_mb(process)
    ordered = sorted(times)
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": len(times),
        "per_second": round(len(times) / seconds, 1),
        "statuses": {str(status): count for status, count in statuses.items()},
        "median_ms": round(statistics.median(ordered), 1),
        "p99_ms": round(ordered[int(0.99 * (len(ordered) - 1))], 1),
        "resident_mb_after_a_third": early,
        "resident_mb_at_the_end": late,
    }


def uploads(port: int, images: list[bytes]) -> dict[str, Any]:
    """Uploads at once, each asked about: all are answered or told to come back."""
    statuses: Counter[str] = Counter()

    def client(data: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        status, answer, _ = ask(connection, "POST", "/v1/uploads", data)
        statuses[f"upload {status}"] += 1
        if status == 201:
            prompt = {"kind": "box", "box_xyxy": [50, 50, 250, 250]}
            image = {"upload": json.loads(answer)["upload"]}
            status, _, _ = ask(connection, "POST", "/v1/query", {"image": image, "prompt": prompt})
            statuses[f"query {status}"] += 1
        connection.close()

    threads = [threading.Thread(target=client, args=[data]) for data in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return dict(statuses)


def resident_mb(process: int) -> int:
    """What a process holds in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) // 1024 if found else 0


def main() -> None:
    """Measure and print."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--regions", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--uploads", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri, bucket = make_index(folder, scenes=options.scenes, regions=options.regions)
        files = sorted(Path(bucket).iterdir())
        keys = [file.name for file in files]
        with server(uri, folder) as (port, process):
            found: dict[str, Any] = {"regions": options.regions, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
            found |= {"clicks": clicks(port, bucket, keys)}
            image = {"bucket": bucket, "key": keys[0], "region": 0}
            found["load_test"] = load(port, process, image, clients=options.clients, seconds=options.seconds)
            found["uploads"] = uploads(port, [files[n % len(files)].read_bytes() for n in range(options.uploads)])
    print(json.dumps(found, indent=1))
    measuring.write(found, options.json)


if __name__ == "__main__":
    main()
