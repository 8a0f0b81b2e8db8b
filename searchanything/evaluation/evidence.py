"""What all images gave, in arrays: rows that may be indexed, instances, and which row lies on which instance."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.closing import Closing
from searchanything.core.digests import Numbers
from searchanything.core.types import Codes, FloatArray
from searchanything.evaluation.asking import Vocabulary
from searchanything.evaluation.clicking import CLICKS
from searchanything.evaluation.observing import Observation
from searchanything.evaluation.overlaps import MIN_IOU
from searchanything.evaluation.query_table import JudgedQuery
from searchanything.evaluation.truth import TrueImage

RowsOf: TypeAlias = Callable[[Numbers], FloatArray]  # numbers of rows -> their features, float32


class Spool:
    """Rows of features on disk, float16, in a temporary file that vanishes when it is closed.

    5,000 images with 100 regions of 1,344 values would take 2.7 GB of memory.
    """

    def __init__(self, columns: int) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed with the collector
        self._columns = columns
        self._count = 0

    def append(self, rows: FloatArray) -> None:
        """Add rows (n, columns)."""
        self._file.write(rows.astype(np.float16).tobytes())
        self._count += len(rows)

    def rows(self) -> NDArray[np.float16]:
        """All rows, (N, columns), read from the disk as they are needed."""
        if not self._count:
            return np.zeros((0, self._columns), dtype=np.float16)
        self._file.flush()
        return np.memmap(self._file, dtype=np.float16, mode="r", shape=(self._count, self._columns))

    def close(self) -> None:
        """Give the disk space back; rows that were handed out stay readable as long as they are referred to."""
        self._file.close()


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """R rows of all images: regions, and boxes that stood in for a missing region (kept by no policy).

    `image` (R,); `is_region` (R,) bool; `kept` (R, P) bool by policy; `stored_bytes` (R,); `joined` (R, C + D) float16;
    `changed` (R, D) float16 by ablation: f_I with other crops; `codes` (R, B) by variant.
    """

    image: Numbers
    is_region: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    stored_bytes: Numbers
    joined: NDArray[np.float16]
    changed: Mapping[str, NDArray[np.float16]]
    codes: Mapping[str, Codes]


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """M instances of all images, (M,) each: crowds too.

    `paired_iou` is that of the region paired with it; `row` what its box prompt selected; `box` … `naming` are 1, 0 or
    NaN as in `observing.Prompted`, `clicks` by `clicking.CLICKS`; `attributes` holds numbers into `attribute_values`.
    """

    image: Numbers
    category: Numbers
    crowd: NDArray[np.bool_]
    area_px: NDArray[np.float64]
    longest_side_px: NDArray[np.float64]
    paired_iou: NDArray[np.float64]
    row: Numbers
    prompts: Mapping[str, NDArray[np.float64]]
    clicks: Mapping[str, NDArray[np.float64]]
    attributes: Mapping[str, Numbers]
    attribute_values: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Everything that the figures are computed from. `matches` (3, n): row, instance, IoU in millionths, IoU ≥ 0.5.

    `asked`: the M instances, as text.
    """

    rows: Rows
    instances: Instances
    matches: Numbers
    images: int
    asked: Sequence[JudgedQuery]


PROMPTS: Final = ("box", "point", "text", "naming")
MILLIONTHS: Final = 1_000_000


class Collector(Closing):
    """Gathers observations, image by image, and makes `Evidence` of them. A context: it owns files on disk."""

    def __init__(self, vocabulary: Vocabulary, attributes: tuple[str, ...]) -> None:
        self._vocabulary = vocabulary
        self._images = 0
        self._count = 0
        self._arrays: dict[str, list[NDArray[np.generic]]] = {}
        self._attributes: dict[str, list[str]] = {name: [] for name in attributes}
        self._asked: list[JudgedQuery] = []
        self._spools: dict[str, Spool] = {}
        self._stack = ExitStack()

    def close(self) -> None:
        """Remove the files."""
        self._stack.close()

    @property
    def images(self) -> int:
        """How many images have been taken in."""
        return self._images

    @property
    def instances(self) -> int:
        """How many instances they have."""
        return sum(len(one) for one in self._arrays.get("category", []))

    def add(self, truth: TrueImage, seen: Observation) -> None:
        """Take one image in."""
        start, first, instances = self._count, self.instances, truth.instances
        rows, numbers = np.nonzero(seen.ious >= MIN_IOU)
        millionths = np.round(seen.ious[rows, numbers] * MILLIONTHS)
        self._keep(
            matches=np.stack([rows + start, numbers + first, millionths]).astype(np.int64).T,
            row_image=np.full(len(seen.kept), self._images),
            is_region=np.arange(len(seen.kept)) < seen.regions,
            kept=seen.kept,
            stored_bytes=seen.stored_bytes,
            image=np.full(len(instances), self._images),
            category=np.array([self._vocabulary.number(one.category) for one in instances], dtype=np.int64),
            crowd=np.array([one.crowd for one in instances], dtype=np.bool_),
            area_px=np.array([one.area_px for one in instances], dtype=np.float64),
            longest_side_px=np.array([one.longest_side_px for one in instances], dtype=np.float64),
            paired_iou=seen.paired_ious,
            row=seen.prompted.rows + start,
            **{name: getattr(seen.prompted, name) for name in PROMPTS},
            **{f"click {name}": seen.prompted.clicks[name] for name in CLICKS},
            **{f"codes {name}": codes for name, codes in seen.features.codes.items()},
        )
        self._asked += [JudgedQuery.about(truth.file_name, one) for one in instances]
        for name, values in self._attributes.items():
            values += [one.attributes[name] for one in instances]
        self._spool("joined", seen.features.joined)
        for name, features in seen.features.changed.items():
            self._spool(name, features)
        self._images += 1
        self._count += len(seen.kept)

    def evidence(self) -> Evidence:
        """What has been taken in so far, at least one image."""
        arrays = {name: np.concatenate(parts) for name, parts in self._arrays.items()}
        spooled = {name: spool.rows() for name, spool in self._spools.items()}
        levels = {name: tuple(sorted(set(values))) for name, values in self._attributes.items()}
        rows = Rows(
            image=arrays["row_image"],
            is_region=arrays["is_region"],
            kept=arrays["kept"],
            stored_bytes=arrays["stored_bytes"],
            joined=spooled["joined"],
            changed={name: one for name, one in spooled.items() if name != "joined"},
            codes={name.removeprefix("codes "): one for name, one in arrays.items() if name.startswith("codes ")},
        )
        instances = Instances(
            **{name: arrays[name] for name in ("image", "category", "crowd", "area_px", "longest_side_px", "row")},
            paired_iou=arrays["paired_iou"],
            prompts={name: arrays[name] for name in PROMPTS},
            clicks={name: arrays[f"click {name}"] for name in CLICKS},
            attributes={name: np.searchsorted(levels[name], values) for name, values in self._attributes.items()},
            attribute_values=levels,
        )
        return Evidence(rows, instances, arrays["matches"].T, self._images, self._asked)

    def _keep(self, **arrays: NDArray[np.generic]) -> None:
        for name, array in arrays.items():
            self._arrays.setdefault(name, []).append(array)

    def _spool(self, name: str, rows: FloatArray) -> None:
        if name not in self._spools:
            self._spools[name] = Spool(rows.shape[1])
            self._stack.callback(self._spools[name].close)
        self._spools[name].append(rows)
