"""How many bits of a region's code differ between a GPU and the CPU of a machine, by precision of the two models.

python benchmarks/same_codes.py [--preset pico] [--scenes 32 | --images F] [--device cuda | --emulated] [--json F]

--emulated: a GPU's arithmetic is carried out on this machine's CPU, slowly; see `benchmarks.emulated`.
--probes: instead of codes, whether `auto` finds the segmenter's answers to its built-in images alike.
The CPU computes in fp32. A region of one is that of the other whose box is nearest, at most 3 px apart. "equal counts":
images that have the same number of regions. "s": seconds of the second of two passes over all images, in one batch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import measuring
from benchmarks.emulated import emulated_gpu
from benchmarks.random_weights import make_weights
from searchanything import wiring
from searchanything.core.protocols import Segmentation
from searchanything.core.settings import Settings, load_settings
from searchanything.core.types import RGBImage
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.encode.encoder import EncodedImage
from searchanything.images.decoding import decode_image
from searchanything.models import presets
from searchanything.models.precision import SEGMENTERS
from searchanything.models.probes import found_again, probe_images

PRECISIONS: Final = (  # of the segmenter and the encoder
    ("auto", "auto"), ("fp32", "fp32"), ("tf32x3", "fp32"), ("fp32", "fp16"), ("tf32x3", "fp16"), ("fp16", "fp16"),
)  # fmt: skip
EMULATED: Final = (("tf32x3", "fp16"),)
NEAR_PX: Final = 3.0
FEW: Final = 4  # bits


def settings_of(options: argparse.Namespace, device: str, segmenter: str, encoder: str) -> Settings:
    """Settings of one arithmetic."""
    settings = load_settings()
    given = {"preset": options.preset, "device": device, "precision": encoder, "segmenter_precision": segmenter}
    settings.models = settings.models.model_copy(update=given)
    if options.random_weights is not None:
        settings.models.weights_dir = options.random_weights
    return settings


def probed(options: argparse.Namespace, precisions: Iterable[str]) -> list[dict[str, Any]]:
    """Whether a segmenter's answers to the built-in images are the CPU's in fp32, as `auto` asks."""

    def answers(device: str, precision: str) -> list[Segmentation]:
        models = settings_of(options, device, precision, "fp32").models
        found: list[Segmentation] = SEGMENTERS.ask(presets.load_segmenter(options.preset, models), probe_images())
        return found

    exact = answers("cpu", "fp32")
    rows = [{"segmenter": "fp32", "regions": sum(len(one.scores) for one in exact)}]
    for precision in precisions:
        with emulated_gpu() if options.emulated else nullcontext():
            found = answers("cpu" if options.emulated else options.device, precision)
        regions = sum(len(one.scores) for one in found)
        again = found_again(found, exact)
        rows.append(
            {"segmenter": precision, "regions": regions, "again": again, "alike": SEGMENTERS.agree(found, exact)}
        )
    return rows


def encoded(
    options: argparse.Namespace, images: list[RGBImage], device: str, segmenter: str, encoder: str
) -> tuple[list[EncodedImage], str, float]:
    """The images' codes, the arithmetic that they were made with, and seconds."""
    settings = settings_of(options, device, segmenter, encoder)
    made = wiring.load_encoder(None, wiring.hash_layer_of(None, None, settings), settings)
    made = wiring.settle_encoder(made, settings)
    if device != "cpu":
        made.encode_images(images)
    start = time.perf_counter()
    return made.encode_images(images), made.arithmetic, time.perf_counter() - start


def compared(exact: list[EncodedImage], found: list[EncodedImage]) -> dict[str, Any]:
    """Bits that differ over all regions that both have."""
    bits = []
    for one, other in zip(exact, found, strict=True):
        if not len(one.codes) or not len(other.codes):
            continue
        apart = np.abs(one.boxes_xyxy[:, None] - other.boxes_xyxy[None]).max(axis=2)
        nearest = apart.argmin(axis=1)
        differ = np.bitwise_count(one.codes ^ other.codes[nearest]).sum(axis=1)
        bits += differ[apart.min(axis=1) <= NEAR_PX].tolist()
    regions = sum(len(one.codes) for one in exact)
    equal = sum(len(one.codes) == len(other.codes) for one, other in zip(exact, found, strict=True))
    if not bits:
        return {"regions": regions, "found": 0, "equal counts": f"{equal}/{len(exact)}"}
    return {
        "regions": regions,
        "found": len(bits),
        "median": float(np.median(bits)),
        "p95": float(np.percentile(bits, 95)),
        "max": max(bits),
        f"over {FEW}": float(np.mean(np.array(bits) > FEW)),
        "equal counts": f"{equal}/{len(exact)}",
    }


def main() -> None:
    """Print the table; write the JSON document where asked."""
    made = measuring.parser(__doc__)
    made.add_argument("--preset", default="pico")
    made.add_argument("--scenes", type=int, default=32)
    made.add_argument("--images", type=Path, help="a folder of JPEG files, instead of scenes")
    made.add_argument("--device", default="cuda")
    made.add_argument("--probes", action="store_true", help="auto's own comparison of the segmenter, instead of codes")
    made.add_argument("--emulated", action="store_true", help="a GPU, on the CPU")
    made.add_argument(
        "--precisions", nargs=2, action="append", metavar=("SEGMENTER", "ENCODER"), help="these alone; more than once"
    )
    made.add_argument("--random-weights", type=Path, help="make the preset's weights there")
    options = made.parse_args()
    if options.random_weights is not None:
        make_weights(options.preset, options.random_weights)
    device, arithmetics = ("cpu", EMULATED) if options.emulated else (options.device, PRECISIONS)
    arithmetics = options.precisions or arithmetics
    if options.probes:
        measuring.report("same_codes", probed(options, dict.fromkeys(first for first, _ in arithmetics)), options)
        return
    if options.images is None:
        images = [scene.image for _, scene in generate_demo_scenes(options.scenes, seed=1)]
    else:
        files = sorted(options.images.glob("*.jpg"))[: options.scenes]
        images = [decode_image(file.read_bytes(), name=file.name, max_pixels=10**8) for file in files]
    exact, arithmetic, seconds = encoded(options, images, "cpu", "fp32", "fp32")
    rows: list[dict[str, Any]] = [{"arithmetic": arithmetic, "s": seconds}]
    for segmenter, encoder in map(tuple, arithmetics):
        with emulated_gpu() if options.emulated else nullcontext():
            found, arithmetic, seconds = encoded(options, images, device, segmenter, encoder)
        rows.append({"arithmetic": arithmetic, "s": seconds, **compared(exact, found)})
    measuring.report("same_codes", rows, options)


if __name__ == "__main__":
    main()
