"""The only place that knows concrete classes: settings → stores, models, encoders.

Heavy libraries are imported inside the functions, so that importing this module stays cheap.
"""

from __future__ import annotations

import threading
from pathlib import Path

from searchanything.encoding import Encoder
from searchanything.errors import PresetError
from searchanything.protocols import ImageStore, IndexStore
from searchanything.settings import MilvusSettings, Settings

CHOOSE_PRESET = (
    "no preset chosen: run `searchanything models fetch small` and use `--preset small` for photographs, "
    "or `--preset pico` to try the plumbing (its bundled models know pictograms, not the world)"
)
_encoders: dict[tuple[str, str], Encoder] = {}
_lock = threading.Lock()


def open_index_store(settings: MilvusSettings) -> IndexStore:
    """The index store that a URI names: `memory://`, a file (Milvus Lite) or `http(s)://` (Milvus server)."""
    if settings.uri.startswith("memory://"):
        from searchanything.stores.memory import MemoryIndexStore

        return MemoryIndexStore(settings.uri)
    from searchanything.stores.milvus import open_milvus

    return open_milvus(settings)


def open_source(source: str | Path, settings: Settings) -> tuple[ImageStore, str]:
    """An image store and the key prefix within it, from `s3://bucket/prefix` or a folder's path."""
    from searchanything.stores.sources import open_store, parse_source

    parsed = parse_source(str(source))
    return open_store(parsed, settings), parsed.prefix


def open_bucket(bucket: str, settings: Settings) -> ImageStore:
    """The image store of a bucket as rows name it: a folder's absolute path, or an S3 bucket."""
    return open_source(bucket if Path(bucket).is_absolute() else f"s3://{bucket}", settings)[0]


def hash_layer_of(preset: str | None, hash_file: Path | None, settings: Settings) -> bytes:
    """The hash layer for a new index: the given file, or what ships with the preset.

    Raises: PresetError, ModelError.
    """
    from searchanything.models.hashing import HashLayer
    from searchanything.models.presets import load_hash

    if hash_file is not None:
        return HashLayer.from_file(hash_file).to_bytes()
    return load_hash(_chosen(preset or settings.models.preset)).to_bytes()


def load_encoder(preset: str | None, hash_layer: bytes, settings: Settings) -> Encoder:
    """Models and hash layer as one encoder; loaded once per process for each preset and layer. Thread-safe.

    Raises: PresetError, WeightsMissingError, ModelError.
    """
    from hashlib import sha256

    from searchanything.models import presets
    from searchanything.models.hashing import HashLayer

    name = _chosen(preset or settings.models.preset)
    key = (f"{name} {settings.models.model_dump_json()}", sha256(hash_layer).hexdigest())
    with _lock:
        if key not in _encoders:
            kin = next((one for (models, _), one in _encoders.items() if models == key[0]), None)
            _encoders[key] = Encoder(
                segmenter=kin.segmenter if kin else presets.load_segmenter(name, settings.models),
                embedder=kin.embedder if kin else presets.load_encoder(name, settings.models),
                hasher=HashLayer.from_bytes(hash_layer),
                box_min_iou=settings.ingest.box_min_iou,
            )
        return _encoders[key]


def _chosen(preset: str | None) -> str:
    if preset is None:
        raise PresetError(CHOOSE_PRESET)
    return preset
