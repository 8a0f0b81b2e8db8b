"""`index` end to end beside the bare models, the naive way, and the stages one by one; or all but the networks.

python benchmarks/ingest.py [--preset pico] [--scenes 48] [--rounds 3] [--json F] [--plot F]
python benchmarks/ingest.py --preset paper --random-weights W --images F --scenes 256 --batch 32 --leave-out naive
python benchmarks/ingest.py --asleep [--sleep-ms 7.2 2.6 22.0 1.0] [--scenes 3000] [--images F] [--milvus URI]

Networks: prepared pixels on the device through the two networks alone, in the same passes: what no pipeline beats on a
GPU. Bare: images decoded and crops cut beforehand, through segmenter and encoder in the same batches, one at a time
over all cores of a CPU, or as many as share them. Ours: `Client.index`
of a folder into an embedded index that holds an image: listing, reading, decoding, models, commit. Naive: the
segmenter per image, the encoder per crop, one insertion per region, as the published demo does it. They take turns; the
best round counts. `--images` takes the JPEG files of a folder, again and again, in the place of scenes;
`--random-weights` makes a preset's networks in a folder, where the published files are not at hand.

--asleep: no network computes anything; a device sleeps so many milliseconds an image for segmenter, cut and encoder,
and Python takes the last number in each of the three (`benchmarks.sleeping`). All else of `index` is real. The numbers
are the paper's models' on an H200 (docs/adr/0080, 0081). It shows what the host's part and the waiting cost, and says
nothing about kernels.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from benchmarks import measuring
from benchmarks.random_weights import make_weights
from benchmarks.sleeping import Pace, sleeping_models
from searchanything import wiring
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.geometry import Letterbox
from searchanything.core.rows import RegionRow, row_id
from searchanything.core.settings import MilvusSettings, Settings, load_settings
from searchanything.core.types import ImageRef, RGBImage
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.encode.encoder import Encoder, RegionJob, Stopwatch, box_tuple
from searchanything.encode.fingerprint import manifest_of
from searchanything.encode.region_policy import RegionPolicy
from searchanything.images.decoding import decode_image

NAIVE: Final = "naive, a quarter"  # of the images
SHARED: Final = "bare, cores shared"
LEFT_OUT: Final = {"bare": "bare models", "naive": NAIVE}


def asleep(options: argparse.Namespace) -> list[dict[str, Any]]:
    """`index` of images with a device that sleeps; its limit is what the networks alone would take."""
    pace, settings = Pace(*options.sleep_ms), load_settings()
    settings.models.preset = options.preset
    settings.ingest.digests_dir = None
    settings.ingest.batch_images = options.batch or settings.ingest.batch_images
    uri, best_s, busy, cpu_s = options.milvus, float("inf"), 0.0, 0.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, count in (("images", options.scenes), ("one", 1)):
            (folder / name).mkdir()
            images_in(folder / name, count, options.images)
        device = stack.enter_context(sleeping_models(pace, count=RegionPolicy().count))
        for number in range(options.rounds):
            client = opened(settings, folder / "one", uri or str(folder / f"{number}.db"))
            worked_s, used_s, start = device.worked_s, time.process_time(), time.perf_counter()
            report = client.index(folder / "images", force=True)
            spent_s = time.perf_counter() - start
            if report.indexed != options.scenes:
                raise RuntimeError(f"expected {options.scenes} images to be indexed, got {report}")
            if spent_s < best_s:
                best_s, busy, cpu_s = spent_s, (device.worked_s - worked_s) / spent_s, time.process_time() - used_s
            client.close()
    rates = {
        "networks": 1000 / pace.networks_ms,
        "networks and cut": 1000 / pace.device_ms,
        "index": options.scenes / best_s,
    }
    rows = [
        {"what": name, "images per s": rate, "of networks": rate / rates["networks"]} for name, rate in rates.items()
    ]
    stages = [
        {"what": f"stage {name}", "ms per image": spent / options.scenes} for name, spent in report.timings_ms.items()
    ]
    host = {"what": "cores of this process", "of the time": cpu_s / best_s}
    return [*rows, {"what": "the device works", "of the time": busy}, host, *stages]


def images_in(folder: Path, count: int, source: Path | None) -> list[RGBImage]:
    """Scenes, or a folder's images, as JPEG files, and their pixels as they will be read."""
    if source is None:
        for number, (_, scene) in enumerate(generate_demo_scenes(count, seed=1)):
            Image.fromarray(scene.image).save(folder / f"{number:05d}.jpg", quality=92)
    else:
        given = sorted(source.glob("*.jpg"))
        for number in range(count):
            shutil.copy(given[number % len(given)], folder / f"{number:05d}.jpg")
    files = sorted(folder.iterdir())
    return [decode_image(file.read_bytes(), name=file.name, max_pixels=10**8) for file in files]


def networks(encoder: Encoder, images: list[RGBImage], size: int) -> Callable[[], object]:
    """The two networks alone, on pixels that lie on the device."""
    segmenter, embedder = encoder.segmenter.load(), encoder.embedder.load()  # type: ignore[attr-defined]
    device, dtype = segmenter._compute.device, segmenter._compute.dtype  # noqa: SLF001
    boxes = [Letterbox(one.shape[0], one.shape[1], segmenter._options.input_size_px) for one in images]  # noqa: SLF001
    pixels = []
    for shape in {box.input_shape for box in boxes}:
        alike = [pair for pair in zip(boxes, images, strict=True) if pair[0].input_shape == shape]
        first = np.stack([box.apply(image) for box, image in alike[:size]])  # again and again: 3,000 would take 26 GB
        there = torch.from_numpy(first).to(device).permute(0, 3, 1, 2).float() / 255
        whole, rest = divmod(len(alike), size)
        pixels += [there] * whole + [there[:rest]] * (rest > 0)
    few = images[:size]
    crops = len(encoder.cut_batch(few, encoder.segment_batch(few, Stopwatch()), Stopwatch()).crops) * len(images)
    at_once, side = embedder.crops_at_once, embedder.crop_size_px
    passes = max(1, round(crops / len(few) / at_once))
    of_encoder = embedder._compute.dtype  # noqa: SLF001
    shown = torch.randn(at_once, side, side, 3, device=device, dtype=of_encoder).permute(0, 3, 1, 2)

    def call() -> None:
        with torch.inference_mode():
            for batch in pixels:
                segmenter._network(batch.to(dtype))  # noqa: SLF001
            for _ in range(passes):
                embedder._embed(shown)  # noqa: SLF001
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    return call


def bare(encoder: Encoder, images: list[RGBImage], size: int, *, at_once: int = 1) -> Callable[[], object]:
    """The two models alone, on prepared batches, of which so many share a CPU's cores."""
    batches = [images[first : first + size] for first in range(0, len(images), size)]
    cut = [encoder.cut_batch(one, encoder.segment_batch(one, Stopwatch()), Stopwatch()).crops for one in batches]

    def of_both(batch: list[RGBImage], crops: RGBImage) -> None:
        with encoder.at_once.sharing():
            encoder.segmenter.segment(batch)
            encoder.embedder.embed_crops(crops)

    def call() -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(of_both, batches, cut))

    return call


def naive(encoder: Encoder, images: list[RGBImage], settings: Settings, uri: str) -> None:
    """One image, one crop and one row at a time."""
    manifest = manifest_of(encoder, "pico")
    settings.milvus.uri = uri
    with wiring.open_index_store(settings.milvus) as store:
        index = store.create(manifest, b"none")
        for number, image in enumerate(images):
            (found,) = encoder.segmenter.segment([image])
            for place in encoder.policy.keep(found).tolist():
                job = RegionJob.of_rows(image, found, np.array([place]))
                code = encoder.hasher.encode(encoder.pool_masks([job]), encoder.embed_regions([job]))[0]
                ref = ImageRef("naive", f"{number}.jpg")
                row = RegionRow(
                    id=row_id(ref, 1, place), code=code.tobytes(), image=ref, etag="", generation=1, region=place,
                    box_xyxy=box_tuple(job.boxes_xyxy[0]), area_px=int(found.letterbox.areas_px(job.masks)[0]),
                    mask=found.letterbox.stored_mask(job.masks[0]), score=float(found.scores[place]),
                    image_width=image.shape[1], image_height=image.shape[0], indexed_at_ms=1, metadata={},
                )  # fmt: skip
                index.insert_regions([row])


def opened(settings: Settings, folder: Path, uri: str) -> Client:
    """A client whose index holds an image: to make one takes some seconds, once."""
    client = connect(settings=settings.model_copy(update={"milvus": MilvusSettings(uri=uri)}))
    client.index(folder)
    return client


def real(options: argparse.Namespace) -> list[dict[str, Any]]:
    settings = load_settings()
    settings.models.preset = options.preset
    settings.ingest.digests_dir = None
    settings.ingest.hash_sample_images = 0  # what a first index trains for presets without a hash is not compared here
    settings.ingest.batch_images = options.batch or settings.ingest.batch_images
    if options.random_weights is not None:
        make_weights(options.preset, options.random_weights)
        settings.models.weights_dir = options.random_weights
    encoder = wiring.load_encoder(None, wiring.hash_layer_of(None, None, settings), settings)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "images").mkdir()
        images = images_in(folder / "images", options.scenes, options.images)
        few = images[: max(1, len(images) // 4)]
        stages: dict[str, float] = {}
        number = iter(range(10**6))

        def fresh() -> str:
            return str(folder / f"index{next(number)}" / "i.db")

        files = sorted((folder / "images").iterdir())
        for some, part in (("one", files[:1]), ("few", files[: len(few)])):
            (folder / some).mkdir()
            for file in part:
                shutil.copy(file, folder / some)
        clients = [opened(settings, folder / "one", fresh()) for _ in range(options.rounds + 1)]
        for client in clients:
            stack.callback(client.close)

        clients.pop().index(folder / "few")  # what a machine measures at its first run is not compared here

        def index() -> None:
            stages.update(clients.pop().index(folder / "images").timings_ms)

        calls: dict[str, Callable[[], object]] = {
            "networks": networks(encoder, images, settings.ingest.batch_images),
            "bare models": bare(encoder, images, settings.ingest.batch_images),
            SHARED: bare(encoder, images, settings.ingest.batch_images, at_once=encoder.at_once.batches),
            "index": index,
            NAIVE: lambda: naive(encoder, few, settings, fresh()),
        }
        for name in options.leave_out:
            del calls[LEFT_OUT[name]]
        if encoder.at_once.batches == 1 or "bare" in options.leave_out:
            del calls[SHARED]
        next(iter(calls.values()))()
        best = measuring.best_ms(calls, rounds=options.rounds)
    rates = {name: 1000 * len(few if name == NAIVE else images) / ms for name, ms in best.items()}
    rows = [
        {
            "what": name,
            "images per s": rate,
            "of networks": rate / rates["networks"],
            "of bare": rate / rates.get("bare models", float("nan")),
        }
        for name, rate in rates.items()
    ]
    print(wiring.settle_encoder(encoder, settings).arithmetic)
    return rows + [
        {"what": f"stage {name}", "ms per image": spent / len(images)} for name, spent in sorted(stages.items())
    ]


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    pyplot = measuring.plotting()
    unit = "images per s"
    shown = [row for row in rows if unit in row][::-1]
    figure, axes = pyplot.subplots(figsize=(4.9, 2.2))
    names = [row["what"].removesuffix(", a quarter") for row in shown]  # of the images; the rate is that of all
    bars = axes.barh(names, [row[unit] for row in shown], color="#2f6f8f")
    axes.bar_label(bars, fmt=" %.1f")
    axes.set_xlabel(unit)
    axes.margins(x=0.15)
    measuring.save_figure(figure, file)


def main() -> None:
    made = measuring.parser(__doc__, plots=True)
    made.add_argument("--preset", default="pico")
    made.add_argument("--scenes", type=int, default=48)
    made.add_argument("--images", type=Path, help="a folder of JPEG files, instead of scenes")
    made.add_argument("--random-weights", type=Path, help="make the preset's weights there")
    made.add_argument("--batch", type=int, help="images in a batch, instead of the setting")
    made.add_argument("--leave-out", nargs="*", choices=LEFT_OUT, default=[], help="what is not measured")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--asleep", action="store_true", help="a device that sleeps, instead of networks")
    made.add_argument("--sleep-ms", type=float, nargs=4, default=[7.2, 2.6, 22.0, 1.0])
    made.add_argument("--milvus", help="a server's address, instead of Milvus Lite; asleep alone")
    options = made.parse_args()
    rows = asleep(options) if options.asleep else real(options)
    measuring.report("ingest", rows, options)
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
