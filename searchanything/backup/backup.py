"""An index into a backup and back: manifest, hash layer, images and regions, whatever the index lies in.

A backup is taken while the index is in use. Each image is in it as it was at one moment, whole (`whole_images`), and
nothing is that belongs to nobody. What is committed after its images were read is not in it; a sync finds it.

A restored index becomes live when all of it is there. Until then nobody sees it, and what a broken attempt left is
removed by the next one.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import chain
from operator import index as whole
from typing import Any, Final, TypeAlias

from searchanything.backup.files import CURE, BackupPlace, Checked, Sealed, json_of, packed, unzipped
from searchanything.backup.whole_images import WholeImages, whole_images
from searchanything.core.batching import batches
from searchanything.core.errors import BackupError, IndexDamagedError, ModelError, UsageError
from searchanything.core.escaping import printable
from searchanything.core.extras import package_version
from searchanything.core.geometry import check_rle
from searchanything.core.manifest import SCHEMA_VERSION, IndexManifest
from searchanything.core.models_before import Before, note_before, replaced_models
from searchanything.core.on_step import OnStep, unseen
from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.rows import ImageRow, Outcome, RegionRow
from searchanything.core.types import ImageRef, MaskRLE
from searchanything.search.committed import holds_rows

logger = logging.getLogger(__name__)

_FORMAT: Final = "searchanything-backup"
FORMAT_VERSION: Final = 1
WORDS_MEMBER: Final = "words.safetensors"
NOTE: Final = "note-"  # and its name: what lies beside the index, after all rows
_NOTES: Final = "standing"  # what names of notes begin with: a backup writes no other
_QUERIES: Final = f"{_NOTES}-query-"
_KEEPING_NOTES: Final = "restoring-notes"  # as long as only some of them may be there
_RESTORING: Final = "restoring-index"  # the fingerprint of one that only a restore wrote, and that was never live
_WHOLE: Final = {one.name for kind in (RegionRow, ImageRow) for one in fields(kind) if one.type == "int"}
_MOST_PX: Final = 2**31
_MOST_BITS: Final = 32_768  # that Milvus takes
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z0-9_-]")
_ROWS_AT_ONCE: Final = 1000  # into the index
Hold: TypeAlias = Callable[[IndexStore, tuple[str, ...]], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup holds. `left_out` counts images that were replaced each time they were read, or lack regions."""

    location: str
    images: int
    regions: int
    left_out: int = 0


def back_up(
    indexes: IndexStore, place: BackupPlace, notes: Mapping[str, bytes] | None = None, *, on_step: OnStep = unseen
) -> BackupReport:
    """Write the live index, and notes that lie beside it, by their names.

    Memory holds some thousand images, and 120 bytes for each of all.

    `on_step` is given the images that were written.

    Raises: UsageError where nothing is indexed, or there is a backup; StoreError, RegionIndexError.
    """
    live = indexes.live()
    if live is None:
        raise UsageError(f"nothing is indexed at {indexes.uri}: there is nothing to back up")
    index = indexes.open(live.fingerprint)
    images, regions, total, left_out = 0, 0, _images_of(index), set[ImageRef]()
    with place.writing() as write:
        sealed = Sealed(write)
        sealed.write("manifest.json", _head(live, replaced_models(indexes)))
        sealed.write("hash.safetensors", indexes.hash_layer(live.fingerprint))
        if index.words is not None:
            sealed.write(WORDS_MEMBER, index.words.layer)
        for number, part in enumerate(whole_images(index, left_out)):
            for kind, documents in zip(("regions", "images"), _documents(part), strict=True):
                if documents:
                    sealed.write(f"{kind}-{number:08}.jsonl.gz", packed(documents))
            images, regions = images + len(part[0]), regions + len(part[1])
            on_step("backing up", images, total)
        for name, data in (notes or {}).items():
            sealed.write(f"{NOTE}{name}", data)
        sealed.close({"images": images, "regions": regions})
    return BackupReport(place.location, images, regions, len(left_out))


class _MadeLiveError(UsageError):
    """What is being restored has become live."""


@contextmanager
def _unheld(_indexes: IndexStore, _fingerprints: tuple[str, ...]) -> Iterator[Callable[[], None]]:
    yield lambda: None


def _any(*_parts: object) -> None:
    """Nothing is looked at."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What looks at parts of a backup that are made elsewhere; each raises for what is none."""

    head: Callable[[IndexManifest, bytes], object] = _any  # with the hash layer
    words: Callable[[bytes], object] = _any
    notes: Callable[[Mapping[str, bytes]], object] = _any


def restore(
    indexes: IndexStore,
    place: BackupPlace,
    *,
    checks: Checks = Checks(),
    hold: Hold = _unheld,
    on_step: OnStep = unseen,
) -> BackupReport:
    """Make the index of a backup, and make it live. Nothing is live before all of it is there and checked.

    `hold` keeps others from making an index of this fingerprint meanwhile, and gives what renews that. `on_step` is
    given the images that are there; a backup says at its end how many it has.

    Raises: UsageError where something is indexed; BackupError; StoreError, RegionIndexError.
    """
    checked = Checked(place)
    members = checked.members()
    manifest, before = _manifest(place.location, members)
    name, hash_layer = next(members, ("", b""))
    if name != "hash.safetensors":
        raise BackupError(f"{place.location} has no hash layer; {CURE}")
    with _understood(place.location, name):
        checks.head(manifest, hash_layer)
    with hold(indexes, (manifest.fingerprint,)) as renew:
        _make_room(indexes, manifest.fingerprint)
        index = indexes.create(manifest, hash_layer)
        try:
            members = _undisturbed(members, indexes, manifest.fingerprint, renew)
            name, layer = next(members, ("", b""))
            if name == WORDS_MEMBER:
                with _understood(place.location, name):
                    checks.words(layer)
                index = indexes.add_words(manifest.fingerprint, layer, bits=_bits_of(layer, place.location))
            else:
                members = chain([(name, layer)] if name else [], members)  # an index may hold nothing
            notes = dict[str, bytes]()
            report = _fill(index, members, checked, place.location, notes, on_step)
            with _understood(place.location, f"{NOTE}{_NOTES}"):
                checks.notes(notes)
            _check_replaceable(indexes, manifest.fingerprint)
        except _MadeLiveError:
            indexes.remember(_RESTORING, b"")
            raise
        except BaseException:
            logger.warning("the restore broke off: what it wrote is not used, and the next one removes it")
            raise
        _keep_notes(indexes, notes)
        note_before(indexes, before)  # who names a preset of before follows here as well
        indexes.remember(_RESTORING, b"")
        indexes.switch(manifest.fingerprint)
    return report


def _keep_notes(indexes: IndexStore, notes: Mapping[str, bytes]) -> None:
    """All of them, each query after what it was made of; none where there are queries that no killed restore left."""
    if not notes:
        return
    if indexes.recall_all(_QUERIES) and not indexes.recall(_KEEPING_NOTES):
        logger.warning("there are standing queries already: those of the backup are left out")
        return
    indexes.remember(_KEEPING_NOTES, b"begun")
    for name in sorted(notes, key=lambda one: one.startswith(_QUERIES)):
        indexes.remember(name, notes[name])
    indexes.remember(_KEEPING_NOTES, b"")


def _undisturbed(
    members: Iterator[tuple[str, bytes]], indexes: IndexStore, fingerprint: str, renew: Callable[[], None]
) -> Iterator[tuple[str, bytes]]:
    """The members of a backup, as long as nobody else makes the index live that they go into.

    Raises: UsageError, and what `renew` raises.
    """
    for member in members:
        renew()
        live = indexes.live()
        if live is not None and live.fingerprint == fingerprint:
            raise _MadeLiveError(
                f"{indexes.uri}: another process has made the index of these models live before the backup was all "
                "there; stop what indexes there, delete its images, and restore again"
            )
        yield member


def _head(manifest: IndexManifest, before: Before) -> bytes:
    head = {
        "format": _FORMAT,
        "version": FORMAT_VERSION,
        "program": package_version(),
        "manifest": asdict(manifest),
        "presets_before": before,
    }
    return json.dumps(head, indent=1, sort_keys=True).encode()


def _manifest(location: str, members: Iterator[tuple[str, bytes]]) -> tuple[IndexManifest, Before]:
    """What a backup begins with, and the models that its index had before."""
    name, data = next(members, ("", b""))
    if name != "manifest.json":
        raise BackupError(f"{location} is no backup of searchanything: it does not begin with a manifest.json")
    head = json_of(name, data, location)
    if head.get("format") != _FORMAT:
        raise BackupError(f"{location} is no backup of searchanything, its format is {head.get('format')!r}")
    if head.get("version") != FORMAT_VERSION:
        raise BackupError(
            f"{location} is of format {head.get('version')!r}, this program reads {FORMAT_VERSION}: "
            f"restore it with searchanything {printable(str(head.get('program')))}"
        )
    try:
        manifest = IndexManifest(**head["manifest"])
        noted = head["presets_before"].items()
        before = {str(preset): {str(name): str(of[name]) for name in of} for preset, of in noted}
        _check_head(manifest)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BackupError(f"{location}: its manifest.json does not hold what it should ({error}); {CURE}") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise BackupError(
            f"{location} holds rows of schema {manifest.schema_version}, this program writes {SCHEMA_VERSION}: "
            f"restore it with searchanything {printable(str(head.get('program')))}, or index the images again"
        )
    return manifest, before


def _make_room(indexes: IndexStore, fingerprint: str) -> None:
    """See that nothing is indexed, and remove what a broken restore left.

    An empty live index makes room as well: filled while it is live, it would answer with half of a backup, and a
    restore that broke off could not be told from an index in use. One of these models that the live one replaced stays.

    Raises: UsageError.
    """
    live, begun = _check_replaceable(indexes, ""), indexes.recall(_RESTORING) == fingerprint.encode()
    is_there = fingerprint in {manifest.fingerprint for manifest in indexes.manifests()}
    is_replaced = live is not None and live.fingerprint != fingerprint and not begun
    if is_there and is_replaced and holds_rows(indexes.open(fingerprint)):
        raise UsageError(
            f"{indexes.uri} holds an index of these models that was replaced, and a restore overwrites nothing: name "
            "another --uri, or delete that one first: searchanything hash layers, then hash drop"
        )
    indexes.remember(_RESTORING, fingerprint.encode())
    if live is not None and live.fingerprint == fingerprint:
        indexes.withdraw()
    if is_there:
        indexes.drop(fingerprint)


def _check_replaceable(indexes: IndexStore, own: str) -> IndexManifest | None:
    """What is live: nothing, the own index, or an empty one. Raises: UsageError for another."""
    live = indexes.live()
    if live is not None and live.fingerprint != own and holds_rows(indexes.open(live.fingerprint)):
        raise UsageError(f"{indexes.uri} holds an index, and a restore overwrites nothing: name another --uri")
    return live


def _fill(
    index: RegionIndex,
    members: Iterable[tuple[str, bytes]],
    checked: Checked,
    location: str,
    notes: dict[str, bytes],
    on_step: OnStep,
) -> BackupReport:
    images = 0
    for name, data in members:
        if name.startswith(NOTE + _NOTES):
            notes[name.removeprefix(NOTE)] = data
            continue
        with _understood(location, name):
            documents = unzipped(name, data, location)
            for some in batches(documents, _ROWS_AT_ONCE):
                if name.startswith("regions-"):
                    index.insert_regions([_region_of(one) for one in some])
                elif name.startswith("images-"):
                    index.insert_images([_image_of(one) for one in some])
                    images += len(some)
                    on_step("restoring", images, None)
    held = {"images": _images_of(index), "regions": index.count_regions()}
    if held != checked.totals:
        raise BackupError(f"{location} holds {checked.totals}, but {held} arrived in the index; restore again")
    return BackupReport(location, **held)


@contextmanager
def _understood(location: str, part: str) -> Iterator[None]:
    """Raises: BackupError for what a part holds that no part does."""
    try:
        yield
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, IndexDamagedError, ModelError) as error:
        raise BackupError(f"{location}: its part {part} does not hold what it should ({error!r}); {CURE}") from error


def _images_of(index: RegionIndex) -> int:
    """How many image rows there are."""
    counts = index.counts()
    return counts.images + counts.empty + counts.failed


def _documents(part: WholeImages) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Those of the regions, and of the images."""
    images, regions = part
    return [_region_document(row) for row in regions], [_image_document(row) for row in images]


def _region_document(row: RegionRow) -> dict[str, Any]:
    return _document(row) | {"mask": [*row.mask.size, row.mask.counts], "box_xyxy": list(row.box_xyxy)}


def _image_document(row: ImageRow) -> dict[str, Any]:
    return _document(row) | {"outcome": row.outcome.value}


def _document(row: RegionRow | ImageRow) -> dict[str, Any]:
    values = {one.name: getattr(row, one.name) for one in fields(row)}
    return values | {
        "code": base64.b64encode(row.code).decode(),
        **_words_of(row),
        "image": [row.image.bucket, row.image.key],
        "metadata": dict(row.metadata),
    }


def _words_of(row: RegionRow | ImageRow) -> dict[str, str]:
    return {"words_code": base64.b64encode(row.words_code).decode()} if isinstance(row, RegionRow) else {}


def _bits_of(layer: bytes, location: str) -> int:
    """The bits of a words layer, a safetensors file: in its metadata. Raises: BackupError."""
    try:
        (length,) = struct.unpack_from("<Q", layer)
        return _checked_bits(int(json.loads(layer[8 : 8 + length])["__metadata__"]["bits"]))
    except (struct.error, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BackupError(f"{location}: its {WORDS_MEMBER} does not hold what it should ({error!r}); {CURE}") from error


def _checked_bits(bits: int) -> int:
    """Raises: ValueError for more than any index takes, or none."""
    if bits % 8 or not 0 < bits <= _MOST_BITS:
        raise ValueError(f"expected codes of up to {_MOST_BITS:,} bits, a multiple of 8, got {bits}")
    return bits


def _check_head(manifest: IndexManifest) -> None:
    """Raises: TypeError, ValueError for values that no manifest has."""
    texts = (manifest.fingerprint, manifest.feature_fingerprint, manifest.preset, manifest.hash_digest)
    if not all(isinstance(one, str) and _NAME.fullmatch(one) for one in texts):  # files are called after some
        raise ValueError(f"expected fingerprints, a preset and a digest, got {texts}")
    kinds = {"bits": int, "hash_trained": bool, "created_at_ms": int, "details": dict}
    if odd := [name for name, kind in kinds.items() if type(getattr(manifest, name)) is not kind]:
        raise TypeError(f"{odd[0]} is no {kinds[odd[0]].__name__}")
    if not 0 <= manifest.created_at_ms < 2**63:
        raise ValueError(f"created_at_ms is {manifest.created_at_ms}")
    _checked_bits(manifest.bits)


def _region_of(document: Mapping[str, Any]) -> RegionRow:
    height, width, counts = document["mask"]
    mask = MaskRLE((whole(height), whole(width)), counts)
    words = base64.b64decode(document["words_code"], validate=True)
    values = _values(document) | {"words_code": words}
    x1, y1, x2, y2 = document["box_xyxy"]
    row = RegionRow(**values | {"mask": mask, "box_xyxy": (x1, y1, x2, y2)})
    check_rle(mask)
    sides = (abs(side) <= _MOST_PX for side in row.box_xyxy)  # which no NaN is
    if min(row.image_width, row.image_height, *mask.size) < 1 or not all(sides):
        raise ValueError(f"expected an image and a mask that have pixels, and a box of it, got {row.box_xyxy}")
    return row


def _image_of(document: Mapping[str, Any]) -> ImageRow:
    return ImageRow(**_values(document) | {"outcome": Outcome(document["outcome"])})


def _values(document: Mapping[str, Any]) -> dict[str, Any]:
    odd = [name for name in _WHOLE & document.keys() if type(document[name]) is not int]
    if odd:
        raise TypeError(f"expected a whole number as {odd[0]}, got {document[odd[0]]!r}")
    code = base64.b64decode(document["code"], validate=True)
    return {**document, "code": code, "image": ImageRef(*document["image"])}
