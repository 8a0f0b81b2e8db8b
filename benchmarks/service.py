"""The ingestion service on this machine: how soon an upload can be found, and what orchestration costs.

python benchmarks/service.py [--preset pico] [--uploads 10] [--waves 5] [--json FILE]

Everything is real and on loopback: SeaweedFS posts its events to the watcher's webhook, Prefect's server, one Dask
worker with the preset's models, an embedded index. Latency: from the end of an upload until the image's row is in the
index. Overhead: the flow `index` over one batch of 32 images (forced), and over as many batches as there are waves,
less the time the worker spent on them: what a lone wave waits for, and what a worker loses that always has a batch.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import SecretStr

import searchanything
from benchmarks import measuring
from searchanything.core.settings import Settings
from searchanything.core.types import RGBImage
from searchanything.demo.local_s3 import LocalS3
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.service.tree import ServiceTree, free_port
from searchanything.stores.s3 import S3Store

BUCKET, SOURCE, TOKEN = "images", "s3://images", "benchmark"
BATCH = 32
LONGEST_S = 300.0  # the first upload waits for the models, too
NOTIFICATION = '[notification.webhook]\nenabled = true\nendpoint = "http://127.0.0.1:{}/events"\nbearer_token = "{}"\n'


def started(folder: Path, preset: str, open_: ExitStack) -> tuple[Settings, S3Store, ServiceTree]:
    """Servers, bucket and watcher."""
    settings = Settings(_env_file=None)
    settings.service.webhook_port, settings.service.webhook_token = free_port(8601), SecretStr(TOKEN)
    (folder / "s3").mkdir()
    (folder / "s3" / "notification.toml").write_text(NOTIFICATION.format(settings.service.webhook_port, TOKEN))
    server = open_.enter_context(LocalS3(folder / "s3"))
    settings.storage, settings.models.preset = server.settings(), preset
    settings.milvus.uri = str(folder / "index.db")
    storage, prefix = settings.storage, "SEARCHANYTHING_"
    os.environ |= {
        f"{prefix}STORAGE__ENDPOINT": str(storage.endpoint),
        f"{prefix}STORAGE__ACCESS_KEY": storage.access_key.get_secret_value() if storage.access_key else "",
        f"{prefix}STORAGE__SECRET_KEY": storage.secret_key.get_secret_value() if storage.secret_key else "",
        f"{prefix}STORAGE__SECURE": "false",
        f"{prefix}MILVUS__URI": settings.milvus.uri,
        f"{prefix}MODELS__PRESET": preset,
        f"{prefix}SERVICE__WEBHOOK_PORT": str(settings.service.webhook_port),
        f"{prefix}SERVICE__WEBHOOK_TOKEN": TOKEN,
    }
    store = S3Store(settings.storage, BUCKET)
    store.make_bucket()
    tree = open_.enter_context(ServiceTree(SOURCE, settings))
    tree.start_watching()
    return settings, store, tree


def shared_environment(tree: ServiceTree) -> dict[str, str]:
    """What a flow in this process needs for the service's own server and workers."""
    of_service = ("PREFECT_", "SEARCHANYTHING_SERVICE__CLUSTER_KEY_FILE")
    found = {name: value for name, value in tree.environment.items() if name.startswith(of_service)}
    return found | {"SEARCHANYTHING_SERVICE__SCHEDULER": tree.notes["scheduler"]}


def latencies(client: searchanything.Client, store: S3Store, images: dict[str, bytes]) -> list[float]:
    """Seconds from the end of each upload, one after the other, until one more image is in the index."""
    found = []
    for key, data in images.items():
        before = client.status().images
        store.upload(key, data)
        start = time.perf_counter()
        while client.status().images == before:
            if time.perf_counter() - start > LONGEST_S:
                raise TimeoutError(f"{key} was not indexed within {LONGEST_S:.0f} s; is the machine busy?")
            time.sleep(0.02)
        found.append(time.perf_counter() - start)
        time.sleep(0.5)
    return found


async def wave_times(waves: list[list[str]]) -> list[tuple[float, float]]:
    """For each run of the flow over a wave of keys: the seconds it took, and those that the worker spent."""
    from searchanything_flows.engine import workers
    from searchanything_flows.index import index, report_of

    times = []
    async with workers(SOURCE):
        for keys in waves:
            start = time.perf_counter()
            report = await report_of(await index(SOURCE, keys, force=True, return_state=True))
            times.append((time.perf_counter() - start, sum(batch.seconds for batch in report.batches)))
    return times


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--uploads", type=int, default=10)
    parser.add_argument("--waves", type=int, default=5)
    options = parser.parse_args()
    images = [jpeg(scene.image) for _, scene in generate_demo_scenes(max(BATCH, options.uploads), seed=1)]
    with tempfile.TemporaryDirectory() as name, ExitStack() as open_:
        settings, store, tree = started(Path(name), options.preset, open_)
        client = open_.enter_context(searchanything.connect(settings=settings))
        latencies(client, store, {"first.jpg": images[0]})  # the models are loaded then
        uploads = {f"upload/{number}.jpg": data for number, data in enumerate(images[: options.uploads])}
        latency = latencies(client, store, uploads)
        keys = [f"batch/{number:04}.jpg" for number in range(BATCH * options.waves)]
        for key, data in zip(keys, cycle(images[:BATCH]), strict=False):
            store.upload(key, data)
        os.environ |= shared_environment(tree)
        _, *times, (many_s, busy_s) = asyncio.run(wave_times([keys[:BATCH]] * (options.waves + 1) + [keys]))
    run_s, work_s = (statistics.median(column) for column in zip(*times, strict=True))
    result: dict[str, Any] = {
        "preset": options.preset,
        "upload_to_row_s": {"median": statistics.median(latency), "longest": max(latency), "uploads": len(latency)},
        "batch_of_32": {"run_s": run_s, "work_s": work_s, "overhead": (run_s - work_s) / run_s, "runs": len(times)},
        "many_batches": {"run_s": many_s, "work_s": busy_s, "overhead": (many_s - busy_s) / many_s},
    }
    print(f"upload to row in the index: median {statistics.median(latency):.2f} s, longest {max(latency):.2f} s")
    print(f"batch of 32: {run_s:.2f} s, of it orchestration {run_s - work_s:.2f} s ({(run_s - work_s) / run_s:.1%})")
    print(f"{options.waves} batches of 32 in one run: {many_s:.2f} s, of it the worker waits {1 - busy_s / many_s:.1%}")
    measuring.write(result, options.json)


def jpeg(image: RGBImage) -> bytes:
    """As a camera would write it."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=92)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
