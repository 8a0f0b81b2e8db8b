"""Train the `pico` segmenter from scratch: data, training, export, figures.

    python -m training.pictograms
    python -m training.photographs
    python -m training.scenes_dataset
    python -m training.segmenter --scenes data/scenes --out data/segmenter.pt --minutes 42 25
    python -m training.segmenter_figures --weights data/segmenter.pt --training data/segmenter.training.json

A YOLOv8-seg of one class and random initial weights, in two phases: small canvases first, for speed, then the size and
the look of the images that it will see. On a CPU one thread; run it at a low priority beside other work. What ships was
trained on a GPU, on scenes with street photographs among them (`training.scenes_dataset --street`), in two runs by the
clock, the second from the weights of the first. The same command goes on after an interruption.

    python -m training.segmenter --device 0 --varied --width 0.25 --sides 640 640 --batches 64 64 --minutes 0 15.5
    python -m training.segmenter --device 0 --varied --width 0.25 --sides 640 640 --batches 64 64 --minutes 0 6
        --rates 0 1.2e-3 --start data/segmenter.phase2.pth
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.segmenter_trainer import Outlet

logger = logging.getLogger(__name__)

WIDTH, DEPTH = 0.125, 0.33


def silence_ultralytics() -> None:
    """Keep ultralytics from installing, downloading, syncing and writing settings; call before it is first imported."""
    os.environ |= {
        "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "0",
        "YOLO_CONFIG_DIR": tempfile.mkdtemp(prefix="ultralytics-"),
        "ULTRALYTICS_SAFE_LOAD": "1",
    }


def train(options: argparse.Namespace) -> None:
    """Run both phases and write the weights."""
    silence_ultralytics()
    import torch

    from training.segmenter_trainer import Phase, network_of, train_phase

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network = network_of(options.width, DEPTH)
    (first, second), sides = options.minutes, options.sides
    phases = [
        Phase(options.scenes / "train.yaml", sides[0], first, options.rates[0], options.batches[0], options.varied),
        Phase(options.scenes / "tune.yaml", sides[1], second, options.rates[1], options.batches[1], options.varied),
    ]
    weights = torch.load(options.start) if options.start else None
    record: list[dict[str, object]] = []
    outlets = {number: outlet_of(options, number) for number in (1, 2)}
    for number, phase in enumerate(phases, start=1):
        if phase.minutes <= 0:
            continue
        before = time.process_time()
        weights, steps = train_phase(phase, outlets[number], network=network, start=weights, seed=options.seed + number)
        torch.save(weights, options.out.with_suffix(f".phase{number}.pth"))
        cpu_minutes = round((time.process_time() - before) / 60, 1)
        logger.info("phase %d: %d steps in %.1f CPU minutes", number, steps, cpu_minutes)
        record.append({**asdict(phase), "data": phase.data.name, "steps": steps, "cpu_minutes": cpu_minutes})
    facts = {"width": options.width, "depth": DEPTH, "seed": options.seed, "started_from_weights": bool(options.start)}
    training = {"architecture": "YOLOv8-seg, one class", **facts, "phases": record}
    options.out.with_suffix(".training.json").write_text(json.dumps(training, indent=1) + "\n", "utf-8")
    for outlet in outlets.values():  # a command that is repeated after the end starts anew
        outlet.state.unlink(missing_ok=True)


def outlet_of(options: argparse.Namespace, number: int) -> Outlet:
    """Where a phase writes."""
    from training.segmenter_trainer import Outlet

    options.out.parent.mkdir(parents=True, exist_ok=True)
    state = options.out.with_suffix(f".phase{number}.state.pth")
    return Outlet(options.out, state, options.every_minutes, options.scenes / "run", options.bfloat16, options.device)


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description="Train the pico segmenter.")
    parser.add_argument("--scenes", type=Path, default=Path("data/scenes"), help="what training.scenes_dataset wrote")
    parser.add_argument("--out", type=Path, default=Path("data/segmenter.pt"), help="where the weights go")
    parser.add_argument("--minutes", type=float, nargs=2, default=(42.0, 25.0), help="wall-clock budget of each phase")
    parser.add_argument("--sides", type=int, nargs=2, default=(416, 640), help="training input of each phase, px")
    parser.add_argument("--batches", type=int, nargs=2, default=(12, 8), help="images a step of each phase")
    parser.add_argument("--varied", action="store_true", help="scale, shift and join images, for street photographs")
    parser.add_argument("--device", default="cpu", help="cpu, or a CUDA device's number")
    parser.add_argument("--rates", type=float, nargs=2, default=(2.5e-3, 8e-4), help="peak learning rate of each phase")
    parser.add_argument("--width", type=float, default=WIDTH, help="channels, as a part of YOLOv8's widest")
    parser.add_argument("--start", type=Path, help="go on from weights that a phase left (OUT.phaseN.pth)")
    parser.add_argument("--every-minutes", type=float, default=5.0, help="how often weights and state are written")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-bfloat16", dest="bfloat16", action="store_false", help="for CPUs without AVX512-BF16")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(options)


if __name__ == "__main__":
    main()
