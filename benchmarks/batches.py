"""Crops per second by crops at once, which number a run chooses on them, what choosing costs, and which bits differ.

python benchmarks/batches.py [--preset pico] [--crops 256] [--rounds 3] [--runs 3] [--json FILE]
python benchmarks/batches.py --architecture ViT-B-32 --crops 64 --runs 1    # random weights

Sizes take turns, and the best round counts, by the clock and by the time that the calling thread had a core. A run
embeds the crops again and again until it has chosen, with nothing kept from before.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measuring
from searchanything.core.settings import ModelSettings
from searchanything.core.types import FloatArray, RGBImage
from searchanything.models import presets
from searchanything.models.compute import CPU
from searchanything.models.hashing import HashLayer
from searchanything.models.measurements import Measurements
from searchanything.models.openclip import OpenClipEncoder
from searchanything.models.quiet import import_open_clip
from searchanything.models.weights import locate

BLOCK_PX = 8  # crops are coarse noise: of fine noise a network sees the mean alone
MOST_CALLS = 100
Encoders = Callable[[int | None, Path | None], OpenClipEncoder]


def encoders(options: argparse.Namespace, folder: Path) -> Encoders:
    """Loads the encoder for so many crops at once, or for a number that is kept in a folder."""
    if options.architecture is None:
        weights = presets.find_preset(options.preset)
        path = locate(weights.encoder, ModelSettings().weights_dir)
        if weights.architecture is None:
            return lambda batch, kept: OpenClipEncoder.from_directory(
                path, batch=batch, measurements=Measurements(kept)
            )
        architecture = weights.architecture
    else:
        import torch

        architecture, path = options.architecture, folder / "random.pt"
        torch.manual_seed(0)
        torch.save(import_open_clip().create_model(architecture).state_dict(), path)
    return lambda batch, kept: OpenClipEncoder.from_checkpoint(
        architecture, path, batch=batch, measurements=Measurements(kept)
    )


def coarse_noise(count: int, side: int) -> RGBImage:
    """Crops (N, S, S, 3) of random blocks."""
    blocks = -(-side // BLOCK_PX)
    drawn = np.random.default_rng(0).integers(0, 256, (count, blocks, blocks, 3), dtype=np.uint8)
    return np.ascontiguousarray(drawn.repeat(BLOCK_PX, 1).repeat(BLOCK_PX, 2)[:, :side, :side])


def by_size(load: Encoders, crops: RGBImage, rounds: int) -> list[dict[str, Any]]:
    """Crops per second at each size, and the bits in which codes differ from those at the usual one."""
    usual = CPU.crops_at_once()
    sizes = [size for size in CPU.crops_to_try() if size <= len(crops)]
    encoder = load(len(crops), None)
    hasher = HashLayer.random_rotation(1, encoder.dimension, bits=presets.HASH_BITS, seed=presets.HASH_SEED)

    def embed(size: int) -> FloatArray:
        return np.concatenate(
            [encoder.embed_crops(crops[start : start + size]) for start in range(0, len(crops), size)]
        )

    rows = {size: embed(size) for size in {*sizes, usual}}
    nothing = np.zeros((len(crops), 1), np.float32)
    codes = {size: hasher.encode(nothing, one) for size, one in rows.items()}
    best = {size: {"clock": 1e9, "core": 1e9} for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            took = timed(partial(embed, size))
            best[size] = {name: min(best[size][name], seconds) for name, seconds in took.items()}
    return [
        {
            "at once": size,
            "crops/s": len(crops) / best[size]["clock"],
            "crops/s by core time": len(crops) / best[size]["core"],
            "other bits": int(np.bitwise_count(codes[size] ^ codes[usual]).sum()),
            "other values": int((rows[size] != rows[usual]).sum()),
        }
        for size in sizes
    ]


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds by the clock, and those that this thread had a core."""
    clock, core = time.perf_counter(), time.thread_time()
    work()
    return {"clock": time.perf_counter() - clock, "core": time.thread_time() - core}


def choices(load: Encoders, crops: RGBImage, runs: int, rates: Mapping[int, float]) -> list[dict[str, Any]]:
    """What runs choose, after how many crops, and how much longer these took than at the chosen size."""
    found = []
    for number in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            encoder, calls, core_s = load(None, Path(folder)), 0, 0.0
            while not any(Path(folder).iterdir()) and calls < MOST_CALLS:
                core_s += timed(partial(encoder.embed_many, crops))["core"]
                calls += 1
            size = encoder.crops_at_once
            spare = core_s - calls * len(crops) / rates[size] if size is not None and size in rates else float("nan")
            found.append(
                {"run": number, "chosen": size, "after crops": calls * len(crops), "s": core_s, "longer by s": spare}
            )
    return found


def main() -> None:
    """Print the tables; write the JSON document where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--architecture", help="an open_clip architecture with random weights, instead of a preset")
    parser.add_argument("--crops", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        load = encoders(options, Path(folder))
        crops = coarse_noise(options.crops, load(1, None).crop_size_px)
        rows = by_size(load, crops, options.rounds)
        rates = {row["at once"]: row["crops/s by core time"] for row in rows}
        rows += choices(load, crops, options.runs, rates)
    measuring.report("batches", rows, options)


if __name__ == "__main__":
    main()
