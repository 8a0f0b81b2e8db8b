"""Train the pico encoder's image tower: pictograms, and photographs where their folders are given.

    python -m training.text_tower … --teacher TABLE.npz …   (or training.text_teacher: the table is extended here)
    python -m training.encoder --street data/street --grocery data/grocery --teacher TABLE.npz --run FOLDER
        --device cuda --minutes 17
    python -m training.encoder … --run SECOND --start FOLDER/image_tower.pt --rate 5e-4 --minutes 7

Crops are made on the device, about a thousand a step; on a CPU take `--batch-share 0.1` or less. The learning rate
follows the clock: a run ends in its minutes however busy the machine is. The same command goes on from the state that
an interrupted one left; with `--steps` the result is that of a run without the interruption. `run.json` in the folder
says what the run was made of.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from training.encoder_lessons import BatchSizes, LessonMaker
from training.encoder_material import Material, MaterialFolders, load_material
from training.encoder_model import build_model, load_imagenet_trunk
from training.encoder_teacher import imagenet_names, load_image_teacher
from training.encoder_trainer import ClassHeads, ImageRun, ImageTeacher, ImageTrainer, Pupil
from training.photograph_classes import PhotographFolders
from training.text_teacher import TeacherTable, centred_names, extend, load_teacher

logger = logging.getLogger(__name__)

_HEAD_RATE = 3  # times the trunk's


def new_pupil(material: Material, arguments: argparse.Namespace) -> Pupil:
    """A tower on ImageNet's trunk, or on a random one, and heads for the material's classes."""
    soft = imagenet_names()
    extend(TeacherTable.load(arguments.teacher), [*material.names, *soft], load_teacher).save(arguments.teacher)
    table = TeacherTable.load(arguments.teacher)  # rounded as a run that goes on will read it
    torch.manual_seed(arguments.seed)
    tower = build_model(vocab_size=514).visual
    if arguments.imagenet:
        load_imagenet_trunk(cast("nn.Module", tower.trunk))
    device = torch.device(arguments.device)
    heads = ClassHeads(centred_names(table, list(material.names)), centred_names(table, soft))
    tower.to(memory_format=torch.channels_last)
    return Pupil(tower.to(device), heads.to(device), device)


def run_of(arguments: argparse.Namespace) -> ImageRun:
    """What the command line asks for."""
    return ImageRun(
        arguments.run,
        minutes=arguments.minutes,
        steps=arguments.steps,
        trunk_rate=arguments.rate,
        head_rate=_HEAD_RATE * arguments.rate,
        every_s=arguments.every_seconds,
    )


def provenance(arguments: argparse.Namespace, material: Material, trainer: ImageTrainer) -> dict[str, Any]:
    """What the run was made of; nothing about the machine but the kind of its device."""
    kept = ("minutes", "steps", "rate", "batch_share", "seed", "thin", "leave_out", "imagenet")
    return {
        "options": {name: getattr(arguments, name) for name in kept},
        "device": arguments.device.partition(":")[0],
        "photographs": [name for name in ("street", "grocery") if getattr(arguments, name)],
        "material": material.counts(),
        "started_from_weights": arguments.start is not None,
        "trained_steps": trainer.step,
        "trained_minutes": round(trainer.elapsed_s / 60, 1),
        "last_loss": round(trainer.loss, 4),
    }


def begin(threads: int) -> None:
    """Messages without ornament, and no more threads than asked for."""
    import cv2

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pictograms", type=Path, default=Path("data/pictograms"), help="cache of training.pictograms")
    parser.add_argument("--photographs", type=Path, default=Path("data/photographs"), help="cache of the photographs")
    parser.add_argument("--street", type=Path, help="annotated street photographs, see training.street_annotations")
    parser.add_argument("--grocery", type=Path, help="grocery photographs, see training.whole_images")
    parser.add_argument("--teacher", type=Path, required=True, help="table of training.text_teacher")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run's state")
    parser.add_argument("--start", type=Path, help="state of another run to begin with")
    parser.add_argument("--minutes", type=float, default=24.0)
    parser.add_argument("--steps", type=int, help="end after so many steps, whatever the clock says")
    parser.add_argument(
        "--rate", type=float, default=1e-3, help="peak learning rate of the trunk; thrice it the heads'"
    )
    parser.add_argument("--batch-share", type=float, default=1.0, help="of 1,056 crops a step")
    parser.add_argument("--every-seconds", type=float, default=60.0, help="how often the state is written")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--thin", type=int, default=1, help="take every so manieth drawing and photograph, for trials")
    parser.add_argument("--leave-out", nargs="*", default=[], help="styles kept from training, to try the encoder on")
    parser.add_argument("--no-imagenet", dest="imagenet", action="store_false", help="no trunk or teacher of ImageNet")
    return parser.parse_args()


def main() -> None:
    """Train the image tower of the pico encoder."""
    arguments = _arguments()
    begin(arguments.threads)
    arguments.run.mkdir(parents=True, exist_ok=True)
    others = PhotographFolders(arguments.street, arguments.grocery)
    leave_out = tuple(arguments.leave_out)
    folders = MaterialFolders(arguments.pictograms, arguments.photographs, others, leave_out, arguments.thin)
    material = load_material(folders, seed=arguments.seed)
    logger.info("%s", material.counts())
    pupil = new_pupil(material, arguments)
    teacher: ImageTeacher | None = load_image_teacher(pupil.device) if arguments.imagenet else None
    lessons = LessonMaker(material.to(pupil.device), BatchSizes().scaled(arguments.batch_share))
    trainer = ImageTrainer(run_of(arguments), pupil, lessons, teacher=teacher)
    if trainer.resume():
        logger.info("goes on from step %d", trainer.step)
    elif arguments.start:
        trainer.start_from(arguments.start)
    trainer.fit()
    record = json.dumps(provenance(arguments, material, trainer), indent=1)
    (arguments.run / "run.json").write_text(record + "\n", "utf-8")


if __name__ == "__main__":
    main()
