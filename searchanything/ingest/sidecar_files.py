"""Regions that a file has for many images, written into the sidecars of these images: of a folder or a bucket."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from searchanything.core.batching import batches
from searchanything.core.counting import counted
from searchanything.core.errors import ImageError, ObjectNotFoundError, StoreError, StoreUnavailableError
from searchanything.core.protocols import FileStore, ImageStore
from searchanything.images.coco_regions import Entry, NamedImage
from searchanything.images.given_regions import MOST_GIVEN_REGIONS
from searchanything.images.image_names import ImageNames
from searchanything.images.scopes import Scope
from searchanything.images.sidecars import MAX_REGIONS_BYTES

_REGIONS: Final = "regions"
_EACH: Final = 4  # sidecars that a thread writes of a batch
Written: TypeAlias = Literal[
    "written", "unchanged", "regions removed", "without regions", "not found", "ambiguous", "failed"
]


@dataclass(frozen=True, slots=True)
class SidecarOutcome:
    """What became of one image of a file: the key of its sidecar or its name, the regions written, what is wrong."""

    name: str
    outcome: Written
    regions: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SidecarFiles:
    """The sidecars of an image store's images in a scope. `files` are that place's, by the same names as the keys.

    A sidecar's other names stay as they are, and one that would not change is not written; in a `dry_run` none is.
    """

    store: ImageStore
    scope: Scope
    files: FileStore
    suffix: str
    dry_run: bool = False

    def write(
        self, images: Sequence[NamedImage], *, threads: int, progress: Callable[[int, int], None]
    ) -> list[SidecarOutcome]:
        """Write the regions of a file's images; `progress` hears how many of them are done, and of how many.

        Where a file has no regions for an image, its sidecar, if there is one, has none any more.

        Raises: StoreError where the source cannot be listed; StoreUnavailableError, with all done so far written.
        """
        listed = (one.ref.key for one in self.store.list(self.scope.prefix))
        names = ImageNames((key for key in listed if self.scope.may_be_image(key)), self.scope.prefix)
        outcomes, wanted = [], defaultdict[str, list[NamedImage]](list)
        for image in images:
            match names.find(image.name):
                case [key]:
                    wanted[key].append(image)
                case []:
                    outcomes.append(SidecarOutcome(image.name, "not found"))
                case keys:
                    several = f"can be each of {counted(len(keys), 'image')}, such as {keys[0]} and {keys[1]}"
                    outcomes.append(SidecarOutcome(image.name, "ambiguous", problem=several))
        for key in [key for key, same in wanted.items() if len(same) > 1]:
            several = f"{counted(len(wanted[key]), 'image')} of the file can be this one"
            outcomes += [SidecarOutcome(one.name, "ambiguous", problem=several) for one in wanted.pop(key)]
        for key in self._shared(wanted):
            del wanted[key]
            why = "is left as it is: by a link it is another image's as well, which would get the same regions"
            outcomes.append(SidecarOutcome(f"{key}{self.suffix}", "failed", problem=why))
        done = 0
        with ThreadPoolExecutor(threads) as pool:
            for some in batches(wanted.items(), threads * _EACH):  # what is under way ends before an error is raised
                outcomes += pool.map(lambda one: self._write(one[0], one[1][0].regions), some)
                progress(done := done + len(some), len(wanted))
        return outcomes

    def _shared(self, images: Collection[str]) -> list[str]:
        """Those images of a folder whose sidecar is one file with another's of them."""
        folder = Path(self.store.bucket)
        if not folder.is_absolute():
            return []
        behind = {image: os.path.realpath(folder / f"{image}{self.suffix}") for image in images}
        times = Counter(behind.values())
        return [image for image, file in behind.items() if times[file] > 1]

    def _write(self, image: str, regions: list[Entry]) -> SidecarOutcome:
        key = f"{image}{self.suffix}"
        try:
            before = self._read(key)
            after = {name: value for name, value in before.items() if name != _REGIONS}
            kept = _as_many_as_fit(regions, MAX_REGIONS_BYTES - len(_bytes(after)) - len(_REGIONS) - 8)
            if regions and not kept:
                raise ValueError(f"it may have {MAX_REGIONS_BYTES:,} bytes, where no region fits in")
            after |= {_REGIONS: kept} if kept else {}
            if after != before and not self.dry_run:
                self.files.write(key, _bytes(after))
        except StoreUnavailableError:
            raise
        except (StoreError, ImageError, ValueError, RecursionError) as error:
            return SidecarOutcome(key, "failed", problem=f"is left as it is: {error}")
        left = len(regions) - len(kept)
        problem = f"{counted(left, 'region')} left out, the smallest: a sidecar holds no more" if left else ""
        if after == before:
            return SidecarOutcome(key, "unchanged" if kept else "without regions", len(kept), problem)
        return SidecarOutcome(key, "written" if kept else "regions removed", len(kept), problem)

    def _read(self, key: str) -> dict[str, Any]:
        """What a sidecar holds now, which a listing of many images may be too old for; nothing where there is none.

        Raises: ValueError where that is no sidecar, which is then left alone; as `ImageStore.read`.
        """
        try:
            document = json.loads(self.store.read(key)[1].decode("utf-8-sig"))
        except ObjectNotFoundError:
            return {}
        if not isinstance(document, dict):
            raise ValueError(f"expected a JSON object, got {type(document).__name__}")  # noqa: TRY004
        return document


def _as_many_as_fit(regions: list[Entry], room_bytes: int) -> list[Entry]:
    kept = []
    for one in regions[:MOST_GIVEN_REGIONS]:
        room_bytes -= len(_bytes(one)) + 1
        if room_bytes < 0:
            break
        kept.append(one)
    return kept


def _bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")
