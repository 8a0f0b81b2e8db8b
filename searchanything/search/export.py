"""Index → file: regions, masks and codes as COCO JSON or Parquet, for other programs.

Only the newest committed generation of an image is written, and of each image one generation alone: the one that was
the newest when the first of its rows was met. Rows pass through in batches; what grows is some 0.3 KB per image.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from searchanything.core.arguments import check_under
from searchanything.core.batching import batches
from searchanything.core.counting import counted
from searchanything.core.errors import RegionIndexError, UsageError
from searchanything.core.extras import install_command
from searchanything.core.files import check_save_path, write_whole
from searchanything.core.geometry import box_of_mask, encode_rle, mask_of_size
from searchanything.core.manifest import IndexManifest
from searchanything.core.on_step import OnStep, unseen
from searchanything.core.patience import later_looks
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageState, RegionRow
from searchanything.core.types import ImageRef

logger = logging.getLogger(__name__)

_SUFFIXES = (".json", ".parquet")
_BATCH_ROWS = 8000  # rows whose images are asked for at once: an embedded index looks at all of its own each time
_LATE_IMAGES = 256  # whose regions are held
_BITS = 4096  # of an image: far more than the models find
ROW_GROUP_ROWS = 8000  # of a Parquet file: up to 32 MB where every mask is as long as it may be
CATEGORY_ID = 1  # COCO's evaluation takes a number 0 for "none", so all numbers begin with 1


def check_export_path(destination: str | Path) -> Path:
    """The path, if a file can be exported under this name on this machine.

    Raises: UsageError for a suffix other than `.json` and `.parquet`, a folder, or Parquet without pyarrow.
    """
    target = check_save_path(destination, _SUFFIXES)
    if target.suffix.lower() == ".parquet":
        _parquet_libraries()
    return target


def export_regions(
    index: RegionIndex,
    destination: str | Path,
    *,
    bucket: str | None = None,
    key_prefix: str = "",
    on_step: OnStep = unseen,
) -> int:
    """Write the regions of an index, of one bucket and prefix if asked, and return how many were written.

    `.json`: COCO instances, each mask at its image's size. `.parquet`: a row per region, masks and codes as stored.
    The file appears whole or not at all. `on_step` is given the rows that were read, of how many if all are.

    Raises: UsageError as `check_export_path`, and for a place that cannot be written; RegionIndexError.
    """
    target = check_export_path(destination)
    check_under(bucket, key_prefix)
    total = index.count_regions() if bucket is None and not key_prefix else None  # of a part it takes as long again
    rows = committed_regions(
        index, bucket=bucket, key_prefix=key_prefix, on_rows=lambda done: on_step("exporting", done, total)
    )
    write = _write_parquet if target.suffix.lower() == ".parquet" else _write_coco
    return write_whole(target, lambda file: write(file, rows, index.manifest))


def committed_regions(
    index: RegionIndex,
    *,
    bucket: str | None = None,
    key_prefix: str = "",
    on_rows: Callable[[int], None] = lambda _: None,
) -> Iterator[RegionRow]:
    """Stream the regions of each image's newest committed generation, in no particular order.

    An image that is replaced meanwhile comes as it was when it was first met, or not at all, but never mixed. At the
    end those are looked at again of which fewer regions came than their image rows say, in long work for some seconds:
    a server that was restarted may answer before it shows all its rows.

    `on_rows` is given how many rows were read so far.
    """
    exported, read = _Exported(index), 0
    for batch in batches(index.iterate_regions(bucket=bucket, key_prefix=key_prefix), _BATCH_ROWS):
        yield from exported.added(batch)
        read += len(batch)
        on_rows(read)
    lacking = exported.lacking(index.iterate_states(bucket=bucket, key_prefix=key_prefix))
    for _ in later_looks() if lacking else ():
        for images in batches(lacking, _LATE_IMAGES):
            yield from exported.added(list(index.regions_of(images)))
        lacking = exported.lacking(index.newest(lacking).values())
        if not lacking:
            return
    if lacking:
        what = counted(len(lacking), "image")
        logger.warning("%s exported without some regions, which are not there; the first is %s", what, min(lacking))


@dataclass(frozen=True, slots=True)
class _Exported:
    """What was exported of each image, by its name: in which generation, -1 where none was committed; and a bit for
    each region, but a number for those `further` on: a backup of somebody else may call one 2,000,000,000.
    """

    index: RegionIndex
    generations: dict[bytes, int] = field(default_factory=dict)
    regions: dict[bytes, int] = field(default_factory=dict)
    further: dict[bytes, set[int]] = field(default_factory=dict)

    def added(self, rows: Sequence[RegionRow]) -> Iterator[RegionRow]:
        """Those of the rows that are exported, each once."""
        names = [bytes.fromhex(row.image.image_id) for row in rows]
        met = {name: row.image for name, row in zip(names, rows, strict=True) if name not in self.generations}
        newest = self.index.generations(met.values()) if met else {}
        self.generations.update((name, newest.get(image, -1)) for name, image in met.items())
        for name, row in zip(names, rows, strict=True):
            if self.generations[name] == row.generation and self._is_new(name, row.region):
                yield row

    def _is_new(self, name: bytes, region: int) -> bool:
        """Whether this region was not exported yet; from now on it was."""
        before = self._count(name)
        if region < _BITS:
            self.regions[name] = self.regions.get(name, 0) | 1 << region
        else:
            self.further.setdefault(name, set()).add(region)
        return self._count(name) > before

    def _count(self, name: bytes) -> int:
        return self.regions.get(name, 0).bit_count() + len(self.further.get(name, ()))

    def lacking(self, states: Iterable[ImageState]) -> set[ImageRef]:
        """The images that have more regions than were exported, and were not replaced since. If none was committed when
        they were met, that is asked again.
        """
        found = set()
        for state in states:
            name = bytes.fromhex(state.image.image_id)
            generation = self.generations.get(name, -1)
            is_same = generation in (-1, state.generation)
            if is_same and self._count(name) < state.regions:
                found.add(state.image)
                if generation < 0:
                    self.generations.pop(name, None)
        return found


def _write_coco(file: BinaryIO, rows: Iterable[RegionRow], manifest: IndexManifest) -> int:
    """COCO instances (https://cocodataset.org/#format-data). The images stand last, as they are known only then."""
    head = {
        "info": {"description": "Regions of a Search Anything index", **_origin(manifest)},
        "licenses": [],
        "categories": [{"id": CATEGORY_ID, "name": "region", "supercategory": "region"}],
    }
    numbers: dict[bytes, int] = {}
    written = 0
    with tempfile.TemporaryFile() as images:
        file.write(_json(head)[:-1] + b',\n"annotations": [')
        for row in rows:
            name = bytes.fromhex(row.image.image_id)
            if name not in numbers:
                numbers[name] = len(numbers) + 1
                images.write((b",\n" if len(numbers) > 1 else b"\n") + _json(_coco_image(row, numbers[name])))
            written += 1
            annotation = _coco_annotation(row, number=written, image_number=numbers[name])
            file.write((b",\n" if written > 1 else b"\n") + _json(annotation))
        file.write(b'\n],\n"images": [')
        images.seek(0)
        while piece := images.read(2**20):
            file.write(piece)
        file.write(b"\n]}\n")
    return written


def _coco_image(row: RegionRow, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": row.image.key,
        "width": int(row.image_width),
        "height": int(row.image_height),
        "bucket": row.image.bucket,
        "etag": row.etag,
        "metadata": dict(row.metadata),
    }


def _coco_annotation(row: RegionRow, *, number: int, image_number: int) -> dict[str, Any]:
    """`area` and `bbox` are of the `segmentation`, `area_px` (of the finer grid) and `box_xyxy` are the index's."""
    try:
        mask = mask_of_size(row.mask, row.image_height, row.image_width)
    except ValueError as error:
        raise RegionIndexError(f"{row.image}, region {row.region}: its mask cannot be exported: {error}") from error
    encoded = encode_rle(mask)
    found = tuple(float(value) for value in row.box_xyxy)
    x1, y1, x2, y2 = box_of_mask(mask) or found
    return {
        "id": number,
        "image_id": image_number,
        "category_id": CATEGORY_ID,
        "iscrowd": 0,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": int(mask.sum()),
        "segmentation": {"size": list(encoded.size), "counts": encoded.counts},
        "score": float(row.score),
        "region": int(row.region),
        "area_px": int(row.area_px),
        "box_xyxy": list(found),
        "code": row.code.hex(),
        "generation": int(row.generation),
        "indexed_at_ms": int(row.indexed_at_ms),
    }


def _write_parquet(file: BinaryIO, rows: Iterable[RegionRow], manifest: IndexManifest) -> int:
    """A row per region, in row groups. `metadata` is a JSON object, as its values are of any type."""
    arrow, parquet = _parquet_libraries()
    schema = _schema(arrow, manifest)
    written = 0
    with parquet.ParquetWriter(file, schema) as writer:
        for batch in batches(rows, ROW_GROUP_ROWS):
            writer.write_batch(arrow.RecordBatch.from_pylist([_record(row) for row in batch], schema=schema))
            written += len(batch)
    return written


def _schema(arrow: Any, manifest: IndexManifest) -> Any:  # noqa: ANN401 - pyarrow has no types
    fields = {
        "id": arrow.string(),
        "code": arrow.binary(manifest.bits // 8),
        "bucket": arrow.string(),
        "key": arrow.string(),
        "etag": arrow.string(),
        "generation": arrow.int64(),
        "region": arrow.int32(),
        "box_xyxy": arrow.list_(arrow.float32(), 4),
        "area_px": arrow.int64(),
        "mask_height": arrow.int32(),
        "mask_width": arrow.int32(),
        "mask_counts": arrow.string(),
        "score": arrow.float32(),
        "image_width": arrow.int32(),
        "image_height": arrow.int32(),
        "indexed_at_ms": arrow.int64(),
        "metadata": arrow.string(),
    }
    columns = [arrow.field(name, kind, nullable=False) for name, kind in fields.items()]
    return arrow.schema(columns, metadata={"searchanything": json.dumps(_origin(manifest))})


def _record(row: RegionRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "code": row.code,
        "bucket": row.image.bucket,
        "key": row.image.key,
        "etag": row.etag,
        "generation": int(row.generation),
        "region": int(row.region),
        "box_xyxy": [float(value) for value in row.box_xyxy],
        "area_px": int(row.area_px),
        "mask_height": int(row.mask.size[0]),
        "mask_width": int(row.mask.size[1]),
        "mask_counts": row.mask.counts,
        "score": float(row.score),
        "image_width": int(row.image_width),
        "image_height": int(row.image_height),
        "indexed_at_ms": int(row.indexed_at_ms),
        "metadata": json.dumps(dict(row.metadata), ensure_ascii=False),
    }


def _origin(manifest: IndexManifest) -> dict[str, Any]:
    """What the codes were made with: only codes of one fingerprint may be compared."""
    return {"fingerprint": manifest.fingerprint, "preset": manifest.preset, "bits": manifest.bits}


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, allow_nan=False).encode("ascii")


def _parquet_libraries() -> tuple[Any, Any]:
    """pyarrow and its Parquet module. Raises: UsageError with the way to install them."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(f"exporting to Parquet needs pyarrow: {install_command('parquet')}") from error
    return pa, parquet
