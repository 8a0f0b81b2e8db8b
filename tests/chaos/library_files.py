"""A folder of images of which all is known: what each holds, and what an index of hand-written models says of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from fakes.models import PALETTE, drawn, poisoned
from PIL import Image

from searchanything.core.rows import Outcome
from searchanything.core.types import BoxXYXY, RGBImage

KEYS = ("a.png", "b.png", "c ü.png", "sub/d.png", "sub/e.png", "sub/deep/f.png")
SUFFIX = ".json"
HEIGHT, WIDTH = 48, 64
THINGS: dict[str, dict[str, tuple[int, int, int, int]]] = {  # apart from each other, so that boxes are as drawn
    "red": {"red": (4, 4, 30, 40)},
    "red and blue": {"red": (4, 4, 30, 40), "blue": (40, 8, 60, 40)},
    "green and white": {"green": (2, 20, 20, 46), "white": (24, 4, 60, 30)},
    "yellow": {"yellow": (34, 4, 44, 14)},
    "nothing": {},
}
DAMAGED = ("poison", "no image", "cut short")
CONTENTS = (*THINGS, *DAMAGED)
SHELVES = ("a", "b", None)
NOISE_IMAGES = 40


@dataclass(frozen=True)
class Picture:
    """What a file holds. `number` is that of no other picture, and in its bytes."""

    content: str
    number: int
    data: bytes = field(repr=False, compare=False)

    @property
    def etag(self) -> str:
        return hashlib.sha256(self.data).hexdigest()[:32]

    @property
    def outcome(self) -> Outcome:
        if self.content in DAMAGED:
            return Outcome.FAILED
        return Outcome.INDEXED if THINGS[self.content] else Outcome.EMPTY

    @property
    def boxes(self) -> list[BoxXYXY]:
        """Of its regions, in no particular order."""
        return sorted(THINGS.get(self.content, {}).values())


@dataclass(frozen=True)
class Entry:
    """A picture with the metadata that it has beside it: what an index may say of a key."""

    picture: Picture
    shelf: str | None

    @property
    def metadata(self) -> dict[str, str]:
        return {} if self.shelf is None else {"shelf": self.shelf}

    @property
    def seen(self) -> tuple[str, str | None]:
        """What can be seen of it in the index: a failed image shows no metadata."""
        return self.picture.etag, None if self.picture.outcome is Outcome.FAILED else self.shelf


class LibraryFiles:
    """The folder. Every write makes bytes that no other has."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.is_away = folder, False
        self._entries = dict[str, Entry]()
        self._numbers, self._times = count(1), count(1)
        folder.mkdir(parents=True)

    @property
    def there(self) -> dict[str, Entry]:
        """What can be read: nothing while the folder is away."""
        return {} if self.is_away else self._entries

    def mount(self, how: str) -> None:
        """The folder is taken away, as an unmounted disk is, or an empty one is in its place; or it is back."""
        kept = self.folder.with_name("kept-away")
        if self.is_away:
            self.is_away = False
            if self.folder.exists():
                self.folder.rmdir()
            kept.rename(self.folder)
        if how != "back":
            self.is_away = True
            self.folder.rename(kept)
            if how == "empty":
                self.folder.mkdir()

    def write(self, key: str, content: str) -> None:
        if not self.is_away:
            self._put(key, picture(content, next(self._numbers)), self.shelf(key))

    def remove(self, key: str) -> None:
        """The image and what lies beside it."""
        if key in self.there:
            (self.folder / key).unlink()
            self._write_beside(key, None)
            del self._entries[key]

    def rename(self, key: str, to: str) -> None:
        if key in self.there and key != to:
            entry = self.there[key]
            self.remove(key)
            self._put(to, entry.picture, entry.shelf)

    def touch(self, key: str) -> None:
        """Another time of change, and nothing else."""
        if key in self.there:
            self._date(self.folder / key)

    def label(self, key: str, shelf: str | None) -> None:
        """Other metadata beside it, or none any more."""
        if key in self.there:
            self._put(key, self.there[key].picture, shelf, is_written=True)

    def shelf(self, key: str) -> str | None:
        return self.there[key].shelf if key in self.there else None

    def _put(self, key: str, one: Picture, shelf: str | None, *, is_written: bool = False) -> None:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if not is_written:
            path.write_bytes(one.data)
            self._date(path)
        self._write_beside(key, shelf)
        self._entries[key] = Entry(one, shelf)

    def _write_beside(self, key: str, shelf: str | None) -> None:
        path = self.folder / f"{key}{SUFFIX}"
        if shelf is None:
            path.unlink(missing_ok=True)
        elif not path.exists() or json.loads(path.read_text("utf-8")) != {"shelf": shelf}:
            path.write_text(json.dumps({"shelf": shelf}), "utf-8")
            self._date(path)

    def _date(self, path: Path) -> None:
        os.utime(path, ns=(10**18 + next(self._times) * 10**9,) * 2)


def picture(content: str, number: int) -> Picture:
    """A picture of that content with its number in it."""
    if content == "no image":
        return Picture(content, number, b"no image %d" % number)
    things = THINGS["red" if content in DAMAGED else content]
    pixels = drawn(HEIGHT, WIDTH, **things)
    if content == "poison":
        pixels = poisoned(pixels)
    pixels[-1, -1] = (1, number // 200, number % 200)
    data = png(pixels)
    return Picture(content, number, data[: len(data) // 2] if content == "cut short" else data)


def png(image: RGBImage) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def save_unlike(folder: Path) -> None:
    """Images of six things each, none of them red, for rates to go by."""
    chance = random.Random(7)  # noqa: S311
    folder.mkdir()
    colours = [name for name in PALETTE if name != "red"]
    for number in range(NOISE_IMAGES):
        boxes = {}
        for place, colour in enumerate(chance.sample(colours, len(colours))):
            x, y = 20 * (place % 3), 24 * (place // 3)
            left, top = x + chance.randint(0, 8), y + chance.randint(0, 10)
            boxes[colour] = (left, top, left + chance.randint(4, 11), top + chance.randint(4, 13))
        (folder / f"{number}.png").write_bytes(png(drawn(HEIGHT, WIDTH, **boxes)))
