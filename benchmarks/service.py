"""The ingestion service on this machine: how soon an upload can be found, and what orchestration costs.

python benchmarks/service.py [--preset pico] [--uploads 10] [--waves 5] [--json FILE]

Everything is real and on loopback: SeaweedFS posts its events to the watcher's webhook, Prefect's server, one Dask
worker with the preset's models, an embedded index. Latency: from the end of an upload until the image's row is in the
index. Overhead: the flow `index` over one batch of 32 images (forced), by itself and in another run (as `watch` runs
it), and over as many batches as there are waves, less the time the worker spent on them: what a lone wave waits for,
and what a worker loses that always has a batch. A lone wave's overhead has three parts: until the flow hands its batch
over; from there until the worker begins, with the answer's way back; and what is published then. Without work: the
processor time of each process that waits for an upload, in parts of a core.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
from PIL import Image
from pydantic import SecretStr

import searchanything
from benchmarks import measuring
from searchanything.core.settings import Settings
from searchanything.core.types import RGBImage
from searchanything.demo.local_s3 import LocalS3
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.service.tree import ServiceTree, listening_on
from searchanything.stores.s3 import S3Store

BUCKET, SOURCE, TOKEN = "images", "s3://images", "benchmark"
BATCH = 32
LONGEST_S = 300.0  # the first upload waits for the models, too
IDLE_S = 30.0  # how long a service without work is looked at
NOTIFICATION = '[notification.webhook]\nenabled = true\nendpoint = "http://127.0.0.1:{}/events"\nbearer_token = "{}"\n'


def started(folder: Path, preset: str, open_: ExitStack) -> tuple[Settings, S3Store, ServiceTree]:
    """Servers, bucket and watcher."""
    settings = Settings(_env_file=None)
    with listening_on(8601) as free:
        settings.service.webhook_port, settings.service.webhook_token = free.getsockname()[1], SecretStr(TOKEN)
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


def idle_shares(tree: ServiceTree) -> dict[str, float]:
    """Processor time of the service's processes while there is nothing to do, as parts of one core."""
    coordinator, prefect = psutil.Process(int(tree.notes["pid"])), psutil.Process(tree.pids["prefect"])
    groups = {
        "coordinator": [coordinator],
        "worker": coordinator.children(recursive=True),
        "prefect": [prefect, *prefect.children(recursive=True)],
    }
    before = {name: processor_s(group) for name, group in groups.items()}
    time.sleep(IDLE_S)
    return {name: (processor_s(group) - before[name]) / IDLE_S for name, group in groups.items()}


def processor_s(processes: list[psutil.Process]) -> float:
    """Seconds that these processes have computed so far, in the kernel and outside."""
    times = [one.cpu_times() for one in processes]
    return float(sum(one.user + one.system for one in times))


@dataclass(frozen=True, slots=True)
class Wave:
    """Seconds of a run of the flow `index`: all of it, the worker's, and its parts in which no worker works."""

    run_s: float
    work_s: float
    before_s: float
    handover_s: float
    after_s: float

    @property
    def overhead(self) -> float:
        """The part of the run in which the worker does not work on it."""
        return (self.run_s - self.work_s) / self.run_s


async def wave(keys: list[str]) -> Wave:
    """Run the flow over a wave of keys. The parts are those of its longest batch."""
    from searchanything_flows.engine import workers
    from searchanything_flows.index import report_of, run_index

    handed: list[tuple[float, float]] = []
    async with workers(SOURCE) as engine:

        async def timed(*given: Any, **options: Any) -> Any:  # noqa: ANN401  what Prefect's tasks take and give
            begin = time.perf_counter()
            result = await type(engine).run(engine, *given, **options)
            handed.append((begin, time.perf_counter()))
            return result

        engine.run = timed  # type: ignore[method-assign]
        start = time.perf_counter()
        report = await report_of(await run_index(SOURCE, keys, force=True))
        end = time.perf_counter()
    work_s = sum(batch.seconds for batch in report.batches)
    (first, _), (_, last) = min(handed), max(handed, key=lambda times: times[1])
    return Wave(end - start, work_s, first - start, last - first - work_s, end - last)


async def wave_times(keys: list[str], waves: int) -> tuple[list[Wave], list[Wave], Wave]:
    """Lone batches by themselves; in a run of another flow; as many at once. A first one is not counted."""
    from prefect import flow

    from searchanything_flows.engine import workers

    async def lone() -> list[Wave]:
        return [await wave(keys[:BATCH]) for _ in range(waves)]

    async with workers(SOURCE):
        await wave(keys[:BATCH])
        alone = await lone()
        return alone, await flow(name="benchmark", persist_result=False)(lone)(), await wave(keys)


def median_of(waves: list[Wave]) -> dict[str, float]:
    """Each number's median, by name."""
    names = ("run_s", "work_s", "before_s", "handover_s", "after_s", "overhead")
    return {name: statistics.median(getattr(one, name) for one in waves) for name in names}


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
        idle = idle_shares(tree)
        keys = [f"batch/{number:04}.jpg" for number in range(BATCH * options.waves)]
        for key, data in zip(keys, cycle(images[:BATCH]), strict=False):
            store.upload(key, data)
        os.environ |= shared_environment(tree)
        alone, inside, many = asyncio.run(wave_times(keys, options.waves))
    result: dict[str, Any] = {
        "preset": options.preset,
        "upload_to_row_s": {"median": statistics.median(latency), "longest": max(latency), "uploads": len(latency)},
        "idle_cores": idle,
        "batch_of_32": median_of(alone) | {"runs": len(alone)},
        "batch_of_32_in_a_parent_run": median_of(inside) | {"runs": len(inside)},
        "many_batches": {"run_s": many.run_s, "work_s": many.work_s, "overhead": many.overhead},
    }
    print(f"upload to row in the index: median {statistics.median(latency):.2f} s, longest {max(latency):.2f} s")
    print("without work:", ", ".join(f"{name} {share:.1%} of a core" for name, share in idle.items()))
    for name, waves in (("by itself", alone), ("in a parent run", inside)):
        print(
            f"batch of 32, {name}: {shown(median_of(waves))}; each: {', '.join(f'{one.overhead:.1%}' for one in waves)}"
        )
    print(f"{options.waves} batches of 32 in one run: {many.run_s:.2f} s, of it the worker waits {many.overhead:.1%}")
    measuring.write(result, options.json)


def shown(of: dict[str, float]) -> str:
    """One line for medians."""
    parts = ", ".join(f"{name} {1000 * of[f'{name}_s']:.0f}" for name in ("before", "handover", "after"))
    return f"{of['run_s']:.2f} s, of it orchestration {of['overhead']:.1%} ({parts} ms)"


def jpeg(image: RGBImage) -> bytes:
    """As a camera would write it."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=92)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
