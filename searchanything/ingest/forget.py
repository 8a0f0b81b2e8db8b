"""What may be forgotten of the images that a listing no longer names (docs/adr/0040).

A disk that is away is an empty folder, a listing can be cut short, a policy can hide a prefix: all look like deletions.
So an image that is not listed is forgotten only if one of these holds:

    few are gone       up to `images`, or up to `share` of what the listing covers, and the listing names some image
    seen twice         an earlier full listing lacked the image too, `after_s` seconds ago or more
    it was asked for   `always`: `--forget`

All others are held back: their rows stay. Below a place that lies on another device than before nothing counts as gone.
What earlier listings of a source lacked, and on which devices its folders lay, is its `SourceMemory`.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.batching import batches
from searchanything.core.counting import counted
from searchanything.core.digests import KnownImages
from searchanything.core.errors import StoreUnavailableError
from searchanything.core.omissions import Omissions
from searchanything.core.protocols import ImageStore, IndexStore, RegionIndex
from searchanything.core.types import ImageRef, StoredObject
from searchanything.images.scopes import Scope

MISSING: Final = np.dtype([("image", "u8"), ("since_ms", "i8")])
FORGOTTEN_AT_ONCE: Final = 8192  # images: an embedded index looks at all its rows for each question and deletion
FORGETTING: Final = "forgetting"
_PASS_ROWS: Final = 4096
_FORMAT: Final = 1
_MOST_DEVICES: Final = 8  # of one place: machines that share an index see other numbers of the same folder
_MOST_MISSING: Final = 1_000_000  # 16 MB; what is beyond counts as missed for the first time


def no_images() -> NDArray[np.void]:
    """No row of `MISSING`."""
    return np.empty(0, dtype=MISSING)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class SourceMemory:
    """What earlier listings of a source showed.

    `missing`: the images that were held back, sorted, each with the time of the first listing that lacked it.
    `devices`: by folder ("" or ending in a slash), the device numbers it was seen on; a folder that is not named lies
    on the device of the folder around it.
    """

    missing: NDArray[np.void] = field(default_factory=no_images)
    devices: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """A line of JSON, then the images."""
        head = {"format": _FORMAT, "devices": {place: list(known) for place, known in self.devices.items()}}
        return json.dumps(head).encode() + b"\n" + zlib.compress(self.missing[:_MOST_MISSING].tobytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> SourceMemory:
        """Nothing for what cannot be read: then every image is missed for the first time, and held back longest."""
        head, _, body = data.partition(b"\n")
        try:
            known = json.loads(head)
            if known["format"] != _FORMAT:
                return cls()
            devices = {str(place): tuple(map(int, numbers)) for place, numbers in known["devices"].items()}
            return cls(np.frombuffer(zlib.decompress(body), dtype=MISSING), devices)
        except (ValueError, TypeError, KeyError, AttributeError, zlib.error):
            return cls()

    def same_as(self, other: SourceMemory) -> bool:
        """True if both say the same."""
        return dict(self.devices) == dict(other.devices) and np.array_equal(self.missing, other.missing)


@dataclass(frozen=True, slots=True)
class ForgetLimits:
    """How much a sync forgets without being asked to; see the top of this module."""

    images: int = 10
    share: float = 0.1
    after_s: float = 3 * 24 * 3600.0
    always: bool = False

    def are_few(self, gone: int, images: int) -> bool:
        """Whether so many `gone` ones, of all images, are too few to be a mistake."""
        return gone <= self.images or gone <= self.share * images


@dataclass(frozen=True, slots=True, eq=False)
class Forgetting:
    """The limits of a sync, what is remembered of its source, and what keeps that; without it nothing is kept."""

    limits: ForgetLimits = field(default_factory=ForgetLimits)
    memory: SourceMemory = field(default_factory=SourceMemory)
    remember: Callable[[SourceMemory], None] | None = None
    clock: Callable[[], int] = now_ms

    def keep(self, memory: SourceMemory) -> None:
        """Remember it, where it differs from what is remembered."""
        if self.remember is not None and not memory.same_as(self.memory):
            self.remember(memory)


def recalled(indexes: IndexStore, source: ImageRef, limits: ForgetLimits) -> Forgetting:
    """With the memory of a source (a bucket and a prefix) that lies beside its index. Raises: RegionIndexError."""
    name = f"sync-{source.image_id}"
    memory = SourceMemory.from_bytes(indexes.recall(name))
    return Forgetting(limits, memory, lambda new: indexes.remember(name, new.to_bytes()))


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """Which of the images that are gone may be forgotten, which are held back, and what to remember of them."""

    forget: tuple[ImageRef, ...]
    held: tuple[ImageRef, ...]
    missing: NDArray[np.void]


def decide(
    gone: Collection[ImageRef], forgetting: Forgetting, *, covered: int, listed: int, made_ms: int = 0
) -> Decision:
    """What becomes of images that are `gone`: of `covered` indexed ones, while the listing named `listed` images.

    `made_ms`: when the index was made. A listing that lacked them before then had a clock that was not set yet.
    """
    limits, now = forgetting.limits, forgetting.clock()
    if limits.always or (listed and limits.are_few(len(gone), covered)):
        return Decision(tuple(gone), (), no_images())
    images = list(gone)
    names = np.array([_name(image) for image in images], dtype=np.uint64)
    since = _first_missed(forgetting.memory.missing, names, now)
    since[since < made_ms] = now
    ripe = since <= now - round(limits.after_s * 1000)
    ripe &= np.isin(names, forgetting.memory.missing["image"])  # missed by an earlier listing, however short the time
    missing = np.zeros(len(images), dtype=MISSING)  # what may be forgotten too: the run may end before it is
    missing["image"], missing["since_ms"] = names, since
    return Decision(
        forget=tuple(image for image, is_ripe in zip(images, ripe, strict=True) if is_ripe),
        held=tuple(image for image, is_ripe in zip(images, ripe, strict=True) if not is_ripe),
        missing=missing[np.argsort(missing["image"])],
    )


def still_missing(missing: NDArray[np.void], gone: Iterable[ImageRef]) -> NDArray[np.void]:
    """Of the remembered rows of `MISSING` those of images that are gone this time, too."""
    names = np.fromiter(map(_name, gone), dtype=np.uint64)
    return missing[np.isin(missing["image"], names)]


def _name(image: ImageRef) -> int:
    """64 bits that stand for an image."""
    return int(image.image_id[:16], 16)


def _first_missed(missing: NDArray[np.void], names: NDArray[np.uint64], now: int) -> NDArray[np.int64]:
    """When a listing lacked each image first; now for those that none lacked before."""
    since = np.full(len(names), now, dtype=np.int64)
    if len(missing):
        places = np.minimum(np.searchsorted(missing["image"], names), len(missing) - 1)
        known = missing["image"][places] == names
        since[known] = np.minimum(missing["since_ms"][places][known], now)
    return since


@dataclass(slots=True)
class _Counts:
    seen: int = 0
    unseen: int = 0


class Devices:
    """The places of a source whose device is not the remembered one, and what the listing showed below each.

    `listed` are the devices of the listing: by folder, as `SourceMemory.devices`. Stores that have none list nothing.
    """

    def __init__(self, remembered: Mapping[str, tuple[int, ...]], listed: Mapping[str, int]) -> None:
        self._remembered = remembered
        self._listed = listed
        self._changed: dict[str, _Counts] = {}
        self._places = {*remembered, *listed} if listed else set()
        for place in self._places:
            before = self._before(place)
            if before and self._now(place) not in before:
                self._changed[place] = _Counts()

    def count(self, key: str, *, seen: bool) -> None:
        """An indexed image, and whether the listing named it."""
        counts = self._changed.get(_around(key, self._places))
        if counts is not None:
            counts.seen += seen
            counts.unseen += not seen

    def unlisted(self) -> list[tuple[str, str]]:
        """The changed places where indexed images are not listed, and why nothing there counts as gone."""
        return [
            (place, self._reason(place, counts)) for place, counts in sorted(self._changed.items()) if counts.unseen
        ]

    def known_now(self, is_hidden: Callable[[str], bool]) -> dict[str, tuple[int, ...]]:
        """The devices to remember. A place that shows most of its indexed images is the same under another number.

        Of a place that the listing could not look into (`is_hidden`) nothing new is known.
        """
        known = dict(self._remembered)
        for place in self._places:
            counts = self._changed.get(place, _Counts())
            if not is_hidden(place) and (counts.unseen == 0 or counts.seen > counts.unseen):
                before, now = self._remembered.get(place, ()), self._now(place)
                known[place] = before if now in before else (*before, now)[-_MOST_DEVICES:]
        return known

    def _before(self, place: str) -> tuple[int, ...]:
        return self._remembered.get(_around(place, self._remembered), ())

    def _now(self, place: str) -> int:
        return self._listed[_around(place, self._listed)]

    def _reason(self, place: str, counts: _Counts) -> str:
        before, known = ", ".join(map(str, self._before(place))), counts.seen + counts.unseen
        missing = f"{counts.unseen:,} of {counted(known, 'indexed image')}"
        return (
            f"lies on device {self._now(place)}, before on {before}: {missing} "
            "missing, and none is taken for deleted; mount the disk, or forget them with `searchanything sync repair "
            "SOURCE --forget`"
        )


def check_disks(store: ImageStore, devices: Mapping[str, tuple[int, ...]], gone: Iterable[str]) -> None:
    """Whether keys that are not there were deleted: they were not where their disk is away.

    `devices` are those of `SourceMemory`. Raises: StoreUnavailableError; StoreError.
    """
    for place in sorted({_around(key, devices) for key in gone} if devices else ()):
        seen = Omissions()
        next(iter(store.list(place, seen)), None)  # no more is looked into than leads there
        now = seen.devices.get(_around(place, seen.devices))
        if now is not None and place in devices and now not in devices[place]:
            raise StoreUnavailableError(
                f"{store.bucket}: {place or 'the folder'} lies on another disk than before, so what is not there is "
                "not taken for deleted; mount the disk, or forget it with `searchanything sync repair SOURCE --forget`"
            )


def _around(key: str, places: Iterable[str]) -> str:
    """The innermost of these places that holds a key or place; the outermost there is where none does."""
    return max((place for place in places if key.startswith(place)), key=len, default="")


@dataclass(frozen=True, slots=True, eq=False)
class Covered:
    """The rows that a listing of a source is compared with."""

    index: RegionIndex
    bucket: str
    scope: Scope

    def known(self) -> KnownImages:
        """The images of the rows, none of them seen yet."""
        return KnownImages(self.index.iterate_states(bucket=self.bucket, key_prefix=self.scope.prefix))


@dataclass(frozen=True, slots=True, eq=False)
class Unseen:
    """The images that a listing lacks, of how many that it covers, and the devices to remember."""

    images: frozenset[ImageRef]
    covered: int
    devices: Mapping[str, tuple[int, ...]]


def find_unseen(source: Covered, known: KnownImages, omissions: Omissions, devices: Devices) -> Unseen:
    """The known images that are not marked as seen, but for what the listing could not look at.

    Places that lie on another device than before are added to what it could not look at. Costs a pass over the rows
    where something is not seen: digests do not tell keys.
    """
    seen, unseen = 0, set()
    if known.rows["seen"].all():
        return Unseen(frozenset(), len(known), devices.known_now(omissions.hides))
    rows = source.index.iterate_states(bucket=source.bucket, key_prefix=source.scope.prefix)
    for states in batches(rows, _PASS_ROWS):
        for state, number in zip(states, known.find([one.image for one in states]).tolist(), strict=True):
            wanted = source.scope.wants(state.image.key)
            if number < 0 or (wanted and omissions.hides(state.image.key)):
                continue  # new since, or it may be there: the listing could not look
            is_seen = bool(known.rows["seen"][number])
            seen += is_seen
            if not is_seen:
                unseen.add(state.image)
            if wanted:
                devices.count(state.image.key, seen=is_seen)
    remembered = devices.known_now(omissions.hides)
    for place, reason in devices.unlisted():
        omissions.miss(place, reason)
    gone = {image for image in unseen if not (source.scope.wants(image.key) and omissions.hides(image.key))}
    return Unseen(frozenset(gone), seen + len(gone), remembered)


def marking(objects: Iterable[StoredObject], known: KnownImages) -> Iterator[StoredObject]:
    """The objects of a listing as they come; when it ends, the known images among them are marked as seen."""
    waiting: list[ImageRef] = []

    def mark() -> None:
        numbers = known.find(waiting)
        known.rows["seen"][numbers[numbers >= 0]] = True
        waiting.clear()

    for one in objects:
        waiting.append(one.ref)
        yield one
        if len(waiting) >= _PASS_ROWS:
            mark()
    mark()
