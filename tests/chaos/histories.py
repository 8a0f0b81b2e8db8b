"""Random histories: what is uploaded, overwritten and deleted, and what is killed meanwhile. A seed is a history."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fakes.models import PALETTE
from PIL import Image, ImageDraw

_KEYS = 12
_FIRST_KEYS = 5
_FOLDERS = ("", "2026/", "ä b/")
_SIDE_PX = (96, 160)


def seeds(default: tuple[int, ...]) -> tuple[int, ...]:
    """The histories to live through: those that SEARCHANYTHING_CHAOS_SEEDS names, as 4,5,6, or the default."""
    chosen = os.environ.get("SEARCHANYTHING_CHAOS_SEEDS")
    return tuple(int(seed) for seed in chosen.split(",")) if chosen else default


class Deed(StrEnum):
    """What a step does to a key."""

    UPLOAD = "upload"
    OVERWRITE = "overwrite"
    DELETE = "delete"


class Victim(StrEnum):
    """What a step kills with SIGKILL, or makes sick."""

    WORKER = "worker"
    COORDINATOR = "coordinator"
    SCHEDULER = "scheduler"
    PREFECT = "prefect"
    S3 = "s3"
    MILVUS = "milvus"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Step:
    """A deed at a key, or the death of a victim; then a pause. `version` makes the bytes, and is never used twice."""

    deed: Deed | None = None
    key: str = ""
    version: int = 0
    victim: Victim | None = None
    pause_s: float = 0.0

    def __str__(self) -> str:
        what = f"{self.deed} {self.key!r} (version {self.version})"
        if self.victim:
            what = "a worker's device turns sick" if self.victim is Victim.DEVICE else f"kill -9 {self.victim}"
        return f"{what}, then {self.pause_s:.2f} s"


def history(seed: int, *, deeds: int, victims: Sequence[Victim]) -> list[Step]:
    """The steps of a seed: `deeds` deeds, with the death of each of `victims` somewhere among them, in random order."""
    rng = random.Random(seed)  # noqa: S311  repeatable on purpose
    names = [f"{seed}/{rng.choice(_FOLDERS)}image-{number}.png" for number in range(_KEYS)]
    there: list[str] = []
    steps: list[Step] = []
    for version in range(deeds):
        deed, key = _choose(rng, names, there, first=version < _FIRST_KEYS)
        if deed is Deed.DELETE:
            there.remove(key)
        elif deed is Deed.UPLOAD:
            there.append(key)
        steps.append(Step(deed, key, seed * 10_000 + version, pause_s=rng.choice([0.0, 0.0, rng.uniform(0.05, 0.6)])))
    deaths = list(victims)
    rng.shuffle(deaths)
    for victim in deaths:
        steps.insert(rng.randrange(_FIRST_KEYS, len(steps) + 1), Step(victim=victim, pause_s=rng.uniform(0.1, 1.0)))
    return steps


def _choose(rng: random.Random, names: list[str], there: list[str], *, first: bool) -> tuple[Deed, str]:
    absent = [name for name in names if name not in there]
    choices = [Deed.UPLOAD] if first or not there else [Deed.UPLOAD, Deed.OVERWRITE, Deed.OVERWRITE, Deed.DELETE]
    deed = rng.choice(choices)
    if deed is Deed.UPLOAD and not absent:
        deed = Deed.OVERWRITE
    return deed, rng.choice(absent if deed is Deed.UPLOAD else there)


def picture(version: int) -> bytes:
    """PNG bytes that belong to one version: rectangles in colours that the fake models see, in a size of its own."""
    rng = random.Random(version)  # noqa: S311  repeatable on purpose
    width, height = size_of(version)
    image = Image.new("RGB", (width, height), (30, 30, rng.randrange(30, 90)))
    draw = ImageDraw.Draw(image)
    for colour in rng.sample(list(PALETTE.values()), rng.randrange(1, 5)):
        x, y = rng.randrange(1, width // 2), rng.randrange(1, height // 2)
        draw.rectangle((x, y, x + rng.randrange(20, 48), y + rng.randrange(20, 48)), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def size_of(version: int) -> tuple[int, int]:
    """Width and height of a version's image in pixels; neighbouring versions differ."""
    low, high = _SIDE_PX
    span = high - low
    return low + version % span, low + version // span % span
