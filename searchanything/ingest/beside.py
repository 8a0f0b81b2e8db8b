"""An index beside the live one, which it is to replace: what it lacks of that, and what it has too much.

The live index goes on being written, so the two are compared again and again, until nothing is lacking.

When the other index has become live others write it as well. From then on `before` says how both stood when they were
compared last: what lacks of that was deleted by others, and is not brought back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.batching import batches
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow, ImageState, Outcome, row_id
from searchanything.core.types import ImageRef
from searchanything.ingest.garbage import collect_garbage

IMAGES_AT_ONCE: Final = 256  # whose rows are held
NEVER_OLD_S: Final = 3e8  # ten years
COMPARED_AT_ONCE: Final = 8192  # per question to an index, which looks at all its rows for each where it is embedded


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Two indexes, as 64 bits for each image in its generation, in order, 8 bytes a row.

    The other index was `lacking` some of what the live one has, and held the others: `held` in the generations of the
    live index, `theirs` in its own.
    """

    lacking: NDArray[np.uint64]
    held: NDArray[np.uint64]
    theirs: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Beside(ABC):
    """An index that is brought up to date with the live one. See the module.

    `progress` is called at every step, with how many more images are done. `before` is given once others write the
    other index as well. All methods raise: RegionIndexError, IndexUnavailableError, and what `progress` raises.
    """

    live: RegionIndex
    other: RegionIndex
    progress: Callable[[int], None] = lambda _: None
    before: Compared | None = None

    @abstractmethod
    def standing(self, states: Sequence[ImageState]) -> list[int | None]:
        """The generation of the other index's row that stands for each of these of the live one; None: it lacks it."""

    def compare(self) -> Compared:
        """What the other index lacks of the live one, and what it has."""
        lacking, held, theirs = array("Q"), array("Q"), array("Q")
        for state, generation, is_lacking in self._compared():
            (lacking if is_lacking else held).append(_number_of(state.image, state.generation))
            if generation is not None:
                theirs.append(_number_of(state.image, generation))
        return Compared(*(np.unique(np.frombuffer(one, dtype=np.uint64)) for one in (lacking, held, theirs)))

    def lacking(self, *, bucket: str | None = None) -> Iterator[ImageState]:
        """The images that the other index does not have as the live one has them; some may come twice."""
        return (state for state, _, is_lacking in self._compared(bucket=bucket) if is_lacking)

    @abstractmethod
    def ready_words(self) -> None:
        """Where the other index should have words codes: what is there gets them, or is lacking from here on."""

    def lacks_words(self) -> bool:
        """Whether some of what the other index has is without words codes, which it should have."""
        return self.other.words is not None and self.other.count_words() < self.other.count_regions()

    def forget_failed_attempts(self) -> None:
        """Delete what only failed to be indexed in the other index, so that it is lacking there, and tried again."""
        for states in batches(self.other.iterate_states(outcome=Outcome.FAILED), COMPARED_AT_ONCE):
            known = self.live.newest({state.image for state in states})
            self.other.delete_images(
                {one.image for one in states if one.image in known and known[one.image].outcome is not Outcome.FAILED}
            )

    def forget_damaged(self) -> None:
        """Delete images that lost regions from the other index, so that they are lacking there; and replaced rows.

        Regions of newer attempts than the committed one stay, whatever their age: a run that was killed wrote them.
        """
        for bucket in sorted({state.image.bucket for state in self.other.iterate_states()}):
            again = self._forgetting(bucket)
            collect_garbage(self.other, bucket=bucket, key_prefix="", again=again, age_s=NEVER_OLD_S)
            self.progress(0)

    def _forgetting(self, bucket: str) -> Callable[[Sequence[str]], None]:
        return lambda keys: self.other.delete_images([ImageRef(bucket, key) for key in keys])

    def carry_failed(self) -> set[str]:
        """Carry over what is known of images that failed; returns the buckets in which others are lacking."""
        buckets: set[str] = set()
        for states in batches(self.lacking(), COMPARED_AT_ONCE):
            buckets |= {state.image.bucket for state in states if state.outcome is not Outcome.FAILED}
            failed = {state.image for state in states if state.outcome is Outcome.FAILED}
            newest = self.live.newest(failed).values() if failed else ()
            rows = [row for row in newest if row.outcome is Outcome.FAILED]
            self.commit_images([replace(row, code=bytes(self.other.manifest.bits // 8)) for row in rows])
        return buckets

    def forget_gone(self) -> int:
        """Delete from the other index what the live one has no more; returns how many images.

        While others write the other index that is what it held `before`: the live one never had what is new there.
        """
        forgotten = 0
        for states in batches(self.other.iterate_states(), COMPARED_AT_ONCE):
            known = self.live.generations({state.image for state in states})
            self.progress(0)
            gone = {one.image: one.generation for one in states if one.image not in known and self._is_of_before(one)}
            if self.before is not None:
                self.other.delete_before({image: generation + 1 for image, generation in gone.items()})
            elif gone:
                self.other.delete_images(gone)
            forgotten += len(gone)
        return forgotten

    def commit_images(self, rows: Sequence[ImageRow]) -> None:
        """Image rows, which commit their regions; then what they replace goes."""
        if not rows:
            return
        before = self.other.generations([row.image for row in rows])
        self.other.insert_images(rows)
        self.other.delete_before({row.image: row.generation for row in rows if row.image in before})
        self.progress(len(rows))

    def was_held(self, image: ImageRef, generation: int) -> bool:
        """Whether the other index had this of the live one, when others began to write it."""
        return self.before is not None and _is_among(_number_of(image, generation), self.before.held)

    def _compared(self, *, bucket: str | None = None) -> Iterator[tuple[ImageState, int | None, bool]]:
        """The live index's images, each with the generation that stands for it, and whether it is lacking."""
        for states in batches(self.live.iterate_states(bucket=bucket), COMPARED_AT_ONCE):
            standing = self.standing(states)
            self.progress(0)
            for state, generation in zip(states, standing, strict=True):
                yield state, generation, generation is None and not self.was_held(state.image, state.generation)

    def _is_of_before(self, state: ImageState) -> bool:
        return self.before is None or _is_among(_number_of(state.image, state.generation), self.before.theirs)


def newest_at_least(generation: int, newest: int | None) -> int | None:
    """The newest generation of an image, None where it is older than this one."""
    return newest if newest is not None and newest >= generation else None


def _number_of(image: ImageRef, generation: int) -> int:
    """64 bits for an image in a generation; others once it was indexed again."""
    return int(row_id(image, generation)[:16], 16)


def _is_among(number: int, numbers: NDArray[np.uint64]) -> bool:
    wanted = np.uint64(number)
    at = int(np.searchsorted(numbers, wanted))
    return at < len(numbers) and bool(numbers[at] == wanted)
