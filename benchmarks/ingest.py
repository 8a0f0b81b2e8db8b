"""`index` end to end beside the bare models, the naive way, and the stages one by one; or the overlap of fake stages.

python benchmarks/ingest.py [--preset pico] [--scenes 48] [--rounds 3] [--json F] [--plot F]
python benchmarks/ingest.py --preset paper --random-weights W --images F --scenes 256 --batch 32 --leave-out naive
python benchmarks/ingest.py --fake [--stage-ms 96 128 160]

Networks: prepared pixels on the device through the two networks alone, in the same passes: what no pipeline can beat.
Bare: images decoded and crops cut beforehand, through segmenter and encoder in the same batches. Ours: `Client.index`
of a folder into an embedded index that holds an image: listing, reading, decoding, models, commit. Naive: the
segmenter per image, the encoder per crop, one insertion per region, as the published demo does it. They take turns; the
best round counts. `--images` takes the JPEG files of a folder, again and again, in the place of scenes;
`--random-weights` makes a preset's networks in a folder, where the published files are not at hand.

--fake: stages that sleep so many milliseconds per batch, in the pipeline of `ingest.overlap`. The throughput is to be
at least 0.92 of what the slowest stage alone would allow. It needs no device, and says nothing about one.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from benchmarks import measuring
from benchmarks.random_weights import make_weights
from searchanything import wiring
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.geometry import Letterbox
from searchanything.core.rows import RegionRow, row_id
from searchanything.core.settings import MilvusSettings, Settings, load_settings
from searchanything.core.types import ImageRef, RGBImage
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.encode.cut_batch import CutBatch
from searchanything.encode.encoder import Encoder, RegionJob, Stopwatch, box_tuple
from searchanything.encode.fingerprint import manifest_of
from searchanything.images.decoding import decode_image
from searchanything.ingest.overlap import Overlap

NAIVE: Final = "naive, a quarter"  # of the images
LEFT_OUT: Final = {"bare": "bare models", "naive": NAIVE}


class FakeStages:
    """As much of an encoder as the pipeline asks for; its stages sleep."""

    lanes = 2

    def crop_bytes(self, _segmentations: Sequence[Any]) -> int:
        return 0

    def __init__(self, stage_s: Sequence[float]) -> None:
        self._segment_s, self._cut_s, self._embed_s = stage_s

    def segment_batch(self, images: Sequence[RGBImage], _watch: Stopwatch) -> list[Any]:
        time.sleep(self._segment_s)
        return list(images)

    def cut_batch(self, _images: object, _found: object, _watch: Stopwatch) -> CutBatch:
        time.sleep(self._cut_s)
        return CutBatch([], np.zeros((0, 1), np.float32), np.zeros((0, 1, 1, 3), np.uint8))

    def embed_batch(self, _cut: CutBatch, _watch: Stopwatch) -> list[Any]:
        time.sleep(self._embed_s)
        return [None]


def fake(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Batches per second of sleeping stages: one after the other, the slowest alone, and overlapped."""
    stage_s = [one / 1000 for one in options.stage_ms]
    pixel, count = np.zeros((1, 1, 3), np.uint8), options.batches
    best = float("inf")
    for _ in range(options.rounds):
        overlap: Overlap[RGBImage] = Overlap(
            FakeStages(stage_s),  # type: ignore[arg-type]
            image_of=lambda one: one,
            alone=lambda batch: [(one, None) for one in batch],
            watch=Stopwatch(),
        )
        start = time.perf_counter()
        for _ in overlap.run([[pixel]] * count):
            pass
        best = min(best, time.perf_counter() - start)
    segment_s, cut_s, embed_s = stage_s
    bound = 1 / max(segment_s, cut_s / FakeStages.lanes, embed_s)  # the host cuts as many batches at once
    rates = {"one after the other": 1 / sum(stage_s), "the slowest stage alone": bound, "overlapped": count / best}
    return [{"what": name, "batches per s": rate, "of the bound": rate / bound} for name, rate in rates.items()]


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


def bare(encoder: Encoder, images: list[RGBImage], size: int) -> Callable[[], object]:
    """The two models alone, on prepared batches."""
    batches = [images[first : first + size] for first in range(0, len(images), size)]
    cut = [encoder.cut_batch(one, encoder.segment_batch(one, Stopwatch()), Stopwatch()).crops for one in batches]

    def call() -> None:
        for batch, crops in zip(batches, cut, strict=True):
            encoder.segmenter.segment(batch)
            encoder.embedder.embed_crops(crops)

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
        fresh = lambda: str(folder / f"index{next(number)}" / "i.db")  # noqa: E731

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

        calls = {
            "networks": networks(encoder, images, settings.ingest.batch_images),
            "bare models": bare(encoder, images, settings.ingest.batch_images),
            "index": index,
            NAIVE: lambda: naive(encoder, few, settings, fresh()),
        }
        for name in options.leave_out:
            del calls[LEFT_OUT[name]]
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
    unit = "batches per s" if "batches per s" in rows[0] else "images per s"
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
    made.add_argument("--fake", action="store_true", help="sleeping stages instead of models")
    made.add_argument("--stage-ms", type=float, nargs=3, default=[96, 128, 160])
    made.add_argument("--batches", type=int, default=60)
    options = made.parse_args()
    rows = fake(options) if options.fake else real(options)
    measuring.report("ingest", rows, options)
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
