"""Settings become stores, models and encoders: no other package names a concrete store or network.

Each function imports what it makes, libraries and our own modules alike, so that importing this module stays cheap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from searchanything.core.addresses import split_s3
from searchanything.core.errors import ModelError, PresetError, SettingsError
from searchanything.core.libraries import importing
from searchanything.core.manifest import IndexManifest, WordsPart
from searchanything.core.on_step import OnStep
from searchanything.core.protocols import (
    ChangeEvents,
    FileStore,
    ImageStore,
    IndexStore,
    RegionIndex,
    Segmenter,
    WordsHasher,
    WritableBucket,
)
from searchanything.core.settings import ENV_PREFIX, MilvusSettings, Settings, StorageSettings
from searchanything.core.state_folders import service_folder
from searchanything.core.types import Codes, Place

if TYPE_CHECKING:
    from searchanything.backup.files import BackupPlace
    from searchanything.encode.encoder import Encoder, Stopwatch
    from searchanything.encode.region_policy import RegionPolicy
    from searchanything.features.layout import FeatureCache
    from searchanything.hash_training.features import FeatureSource
    from searchanything.images.crop_policy import CropPolicy
    from searchanything.images.scopes import Patterns, Scope
    from searchanything.ingest.contact_sheet import TileFiles
    from searchanything.ingest.sidecar_files import SidecarFiles
    from searchanything.models.lazy import LazyEncoder, LazySegmenter

CHOOSE_PRESET = (
    "no preset chosen: run `searchanything models fetch small` and use `--preset small` for photographs, "
    "or `--preset pico` for a quick trial (bundled; it knows pictograms and has seen street and grocery photographs)"
)
COUNTED_OBJECTS: Final = 64  # a Parquet object's footer costs two requests
HashChoice: TypeAlias = Path | Literal["untrained"] | None
_models: dict[str, tuple[LazySegmenter, LazyEncoder]] = {}
_lock = threading.Lock()


def open_index_store(settings: MilvusSettings) -> IndexStore:
    """The index store that a URI names: `memory://`, a file (Milvus Lite) or `http(s)://` (Milvus server)."""
    if settings.uri.startswith("memory://"):
        from searchanything.stores.memory import MemoryIndexStore

        return MemoryIndexStore(settings.uri)
    from searchanything.stores.milvus_opening import open_milvus

    return open_milvus(settings)


def import_index_library() -> None:
    """Now, in this thread, rather than when an index is opened: pymilvus sets up logging while it is imported."""
    from searchanything.stores import milvus_library  # noqa: F401


def scratch_index(manifest: IndexManifest) -> RegionIndex:
    """An empty index in memory, for one run."""
    from searchanything.stores.memory import MemoryIndexStore

    return MemoryIndexStore().create(manifest, b"")


def tune_on_codes(
    index: RegionIndex, *, recall: float, top: int, codes: int, asked: Callable[[], Codes] | None, on_step: OnStep
) -> dict[str, Any]:
    """Which kind of approximate index, with which settings, reaches a recall soonest on an index's codes.

    `asked` makes the codes (Q, B) of questions; None for codes of the index. Raises: UsageError, RegionIndexError.
    """
    from searchanything.stores.tuning import tune_index as tuned

    return tuned(index, recall=recall, top=top, codes=codes, asked=asked, on_step=on_step)


def free_disk_bytes(uri: str) -> int | None:
    """What is free on the disk of an embedded index; None for another one."""
    if "://" in uri:
        return None
    from searchanything.core.disk_room import free_bytes

    folder = Path(uri).expanduser().absolute().parent
    return free_bytes(next(one for one in (folder, *folder.parents) if one.exists()))


def open_source(source: str | Path, settings: Settings) -> tuple[ImageStore, str]:
    """An image store and the key prefix within it, from `s3://bucket/prefix` or a folder's path."""
    from searchanything.stores.sources import open_store, parse_source

    parsed = parse_source(str(source))
    return open_store(parsed, settings), parsed.prefix


def place_of(source: str | Path) -> Place:
    """A source as the place in an index where its images lie. Raises: UsageError."""
    from searchanything.stores.sources import parse_source

    parsed = parse_source(str(source))
    return parsed.bucket, parsed.prefix


def s3_access(source: str | Path, settings: Settings) -> str | None:
    """How the bucket of a source is reached, in words; None for a folder. Raises: UsageError."""
    from searchanything.stores.sources import parse_source

    parsed = parse_source(str(source))
    if parsed.kind == "folder":
        return None
    from searchanything.stores.s3_access import describe_access

    return describe_access(settings.storage, parsed.bucket)


def open_scoped(source: str | Path, settings: Settings, patterns: Patterns | None = None) -> tuple[ImageStore, Scope]:
    """An image store and which of its keys are meant, by the source and the settings (or other patterns)."""
    from searchanything.images.scopes import Patterns, Scope
    from searchanything.stores.sidecars import SidecarStore

    store, prefix = open_source(source, settings)
    ingest = settings.ingest
    given = ingest.regions_from == "sidecar"
    if ingest.sidecar_suffix is not None:
        store = SidecarStore(store, ingest.sidecar_suffix, regions=given)
    elif given:
        raise SettingsError(
            f"{ENV_PREFIX}INGEST__REGIONS_FROM=sidecar needs the suffix of sidecars: set "
            f"{ENV_PREFIX}INGEST__SIDECAR_SUFFIX=.json, and `cat.jpg.json` is the sidecar of `cat.jpg`"
        )
    return store, Scope(
        prefix=prefix,
        patterns=patterns or Patterns(ingest.include, ingest.exclude),
        own_prefix=settings.storage.own_prefix,
        sidecar_suffix=ingest.sidecar_suffix,
        sidecar_regions=given,
    )


def open_sidecar_files(source: str | Path, settings: Settings, patterns: Patterns | None = None) -> SidecarFiles:
    """The sidecars of a source's images, to be written. Nothing is contacted yet. Raises: UsageError, SettingsError."""
    from searchanything.ingest.sidecar_files import SidecarFiles
    from searchanything.stores.files import BucketFiles, FolderFiles
    from searchanything.stores.sources import open_s3

    (store, _), (_, scope) = open_source(source, settings), open_scoped(source, settings, patterns)
    files: FileStore = FolderFiles(Path(store.bucket))
    if not Path(store.bucket).is_absolute():
        files = BucketFiles(open_s3(store.bucket, settings.storage, connections=settings.ingest.transfer_threads), "")
    return SidecarFiles(store, scope, files, settings.ingest.sidecar_suffix or ".json")


def events_opener(source: str | Path, settings: Settings) -> Callable[[], ChangeEvents] | None:
    """Opens the notifications of a source's bucket; None for a folder, which sends none. Nothing is contacted yet."""
    from searchanything.stores.sources import parse_source

    parsed = parse_source(str(source))
    if parsed.kind == "folder":
        return None
    from searchanything.stores.s3_events import BucketEvents

    return lambda: BucketEvents(settings.storage, parsed.bucket, parsed.prefix)


def backup_place(target: str, settings: Settings) -> BackupPlace:
    """Where a backup lies or shall lie: a tar file, or the objects below `s3://bucket/prefix`.

    Raises: SettingsError, UsageError.
    """
    from searchanything.backup.files import ObjectsPlace, TarPlace
    from searchanything.stores.files import BucketFiles
    from searchanything.stores.sources import open_s3, parse_source

    if split_s3(target) is None:
        return TarPlace(Path(target).expanduser())
    parsed = parse_source(target)
    store = open_s3(parsed.bucket, settings.storage, connections=1)
    prefix = parsed.prefix.rstrip("/")
    return ObjectsPlace(BucketFiles(store, f"{prefix}/" if prefix else ""))


def open_s3_bucket(bucket: str, storage: StorageSettings, *, connections: int = 8) -> WritableBucket:
    """An S3 bucket that is written to. Nothing is contacted yet. Raises: SettingsError."""
    from searchanything.stores.sources import open_s3

    return open_s3(bucket, storage, connections=connections)


def open_features(
    location: str, *, mask_dimension: int | None, settings: Settings, class_column: str | None = None
) -> FeatureSource:
    """The features at a path or `s3://bucket/key`: a file, or all `.parquet` files below a folder or prefix.

    `mask_dimension` is how many columns of a `.npy` matrix are f_M; `class_column` names the column of Parquet files
    with the regions' classes. Raises: UsageError, ObjectNotFoundError, SettingsError, StoreError.
    """
    from searchanything.hash_training.features import feature_source
    from searchanything.stores.sources import find_files

    files = find_files(location, settings, suffixes=(".parquet", ".npy"))
    few = len(files) <= COUNTED_OBJECTS or "://" not in location
    return feature_source(location, files, mask_dimension=mask_dimension, class_column=class_column, count_rows=few)


def open_feature_cache(bucket: str, manifest: IndexManifest, settings: Settings) -> FeatureCache:
    """Where the features of a bucket's images in an index are kept: under our own prefix of it, or in a folder.

    Raises: SettingsError where the index of the source would meet them; UsageError without pyarrow.
    """
    from searchanything.features.layout import FeatureCache

    folder = ("ingest.features_dir", settings.ingest.features_dir.expanduser().resolve())
    files = _own_files(bucket, "features", settings, folder=folder, below=manifest.feature_fingerprint)
    return FeatureCache(files, bucket, manifest)


def open_tiles(bucket: str, manifest: IndexManifest, settings: Settings) -> TileFiles:
    """Where the tiles of contact sheets lie: under our own prefix of a bucket, or in the service's folder.

    Raises: SettingsError where the index of the source would meet them.
    """
    from searchanything.features.layout import index_name
    from searchanything.ingest.contact_sheet import TileFiles

    folder = ("service.folder", service_folder(settings) / "tiles")
    return TileFiles(_own_files(bucket, "tiles", settings, folder=folder), bucket, index_name(manifest))


def _own_files(bucket: str, kind: str, settings: Settings, *, folder: tuple[str, Path], below: str = "") -> FileStore:
    """Files of our own that belong to a bucket. Those of a folder of images lie in `folder`, which a setting names."""
    from searchanything.stores.files import BucketFiles, FolderFiles
    from searchanything.stores.sources import open_s3

    if not Path(bucket).is_absolute():
        prefix = settings.storage.own_prefix
        if not prefix:
            raise SettingsError(f"{kind} lie under storage.own_prefix of the bucket; set one, such as .searchanything/")
        store = open_s3(bucket, settings.storage, connections=settings.ingest.transfer_threads)
        return BucketFiles(store, f"{prefix}{kind}/{below}/" if below else f"{prefix}{kind}/")
    setting, kept = folder
    inside = kept.relative_to(bucket).parts if kept.is_relative_to(bucket) else (".",)
    if not any(part.startswith(".") for part in inside):
        raise SettingsError(f"{setting} {kept} lies in the folder of images {bucket}; name another place")
    name = f"{Path(bucket).name}-{blake2b(bucket.encode('utf-8', 'surrogateescape'), digest_size=4).hexdigest()}"
    return FolderFiles(kept / name / below)


def hash_layer_of(preset: str | None, choice: HashChoice, settings: Settings) -> bytes:
    """The hash layer for a new index: the given file, none that is trained, or (None) what belongs to the preset.

    Raises: PresetError, ModelError.
    """
    with importing():
        from searchanything.models import presets
        from searchanything.models.hashing import HashLayer

    if isinstance(choice, Path):
        try:
            return HashLayer.from_file(choice).to_bytes()
        except ModelError as error:
            raise ModelError(f"{choice}: {error}; make one with searchanything hash train") from error
    name = _chosen(preset or settings.models.preset)
    return (presets.load_hash(name) if choice is None else presets.untrained_hash(name)).to_bytes()


def load_encoder(
    preset: str | None,
    hash_layer: bytes,
    settings: Settings,
    *,
    policy: RegionPolicy | None = None,
    crops: CropPolicy | None = None,
    tile_px: int | None = None,
) -> Encoder:
    """Models, hash layer and region policy as one encoder. Thread-safe.

    `crops`: another policy than the preset's, to compare them. `tile_px`: see `asked_regions.tile_side_of`.
    Models are loaded once per process, at the first need (`load_models`); their weights must be there.

    Raises: PresetError, WeightsMissingError, ModelError.
    """
    with importing():
        from searchanything.models import presets, quiet

        quiet.import_torch()
        from searchanything.encode.asked_regions import policy_of
        from searchanything.encode.encoder import Encoder
        from searchanything.models.compute import arithmetic, at_once
        from searchanything.models.hashing import HashLayer

    name = _chosen(preset or settings.models.preset)
    key = _name_of_models(name, settings)
    with _lock:
        if key not in _models:
            _models[key] = presets.lazy_models(name, settings.models)
        segmenter, embedder = _models[key]
    hasher = HashLayer.from_bytes(hash_layer)
    wanted, got = (segmenter.feature_dimension, embedder.dimension), (hasher.mask_dimension, hasher.image_dimension)
    if wanted != got:
        raise ModelError(
            f"expected a hash layer for {wanted[0]} mask and {wanted[1]} image features, those of preset {name!r}, "
            f"got one for {got[0]} and {got[1]}; train it on this preset's features, or leave --hash out"
        )
    return Encoder(
        segmenter=segmenter if tile_px is None else tiled(segmenter, tile_px),
        embedder=embedder,
        hasher=hasher,
        policy=policy or policy_of(settings, None),
        box_min_iou=settings.ingest.box_min_iou,
        crops=crops or presets.find_preset(name).crops,
        resizing=presets.find_preset(name).resizing,
        arithmetic=arithmetic(settings.models, segmenter=segmenter.precision, encoder=embedder.precision),
        settle=partial(presets.settle, segmenter, embedder),
        cutter=presets.open_cutter(settings.models),
        at_once=at_once(settings.models),
    )


def forget_models(preset: str, settings: Settings) -> None:
    """Let a preset's models leave memory when the encoders that have them are gone; who needs them loads them anew."""
    with _lock:
        _models.pop(_name_of_models(preset, settings), None)


def _name_of_models(preset: str, settings: Settings) -> str:
    return f"{preset} {settings.models.model_dump_json(exclude={'preset'})}"  # which may be asked for by an index alone


def settle_encoder(encoder: Encoder, settings: Settings) -> Encoder:
    """The encoder, what it leaves open decided, as an index is about to note it. Nothing is loaded where nothing is.

    Raises: ModelLoadError.
    """
    from searchanything.models.compute import arithmetic
    from searchanything.models.lazy import LazyEncoder, LazySegmenter

    encoder.settle()
    segmenter, embedder = _innermost(encoder.segmenter), encoder.embedder
    if not (isinstance(segmenter, LazySegmenter) and isinstance(embedder, LazyEncoder)):
        return encoder
    of_both = {"segmenter": segmenter.precision, "encoder": embedder.precision}
    return replace(encoder, arithmetic=arithmetic(settings.models, **of_both))


def tiled(segmenter: Segmenter, tile_px: int) -> Segmenter:
    """The segmenter, for images of more than `tile_px` pixels along a side in tiles as well."""
    with importing():
        from searchanything.models.tiles import TiledSegmenter

    return TiledSegmenter(segmenter, tile_px)


def words_hasher(part: WordsPart | None) -> WordsHasher | None:
    """What makes an index's words codes; None where it has none. Raises: ModelError."""
    if part is None:
        return None
    with importing():
        from searchanything.models.words_layer import WordsLayer

    return WordsLayer.from_bytes(part.layer)


def load_models(encoder: Encoder, watch: Stopwatch) -> None:
    """Load what of an encoder is not loaded yet, as a stage of its own. Raises: ModelError."""
    from searchanything.models.lazy import LazyModel

    parts = (_innermost(encoder.segmenter), encoder.embedder)
    if waiting := [part for part in parts if isinstance(part, LazyModel) and not part.loaded]:
        with watch.stage("load_models"):
            for part in waiting:
                part.load()


def _innermost(segmenter: Segmenter) -> Segmenter:
    """The segmenter itself, whatever is wrapped around it."""
    from searchanything.encode.wrapped_segmenter import WrappedSegmenter

    while isinstance(segmenter, WrappedSegmenter):
        segmenter = segmenter.segmenter
    return segmenter


def _chosen(preset: str | None) -> str:
    if preset is None:
        raise PresetError(CHOOSE_PRESET)
    return preset
