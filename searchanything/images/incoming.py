"""What comes from outside, made fit to be kept: the one border that every object of an image store passes.

Names, etags, metadata, tags and sidecars are anybody's, and an index keeps UTF-8 of bounded length. What can be said
otherwise is: a lone surrogate by its escape, a number of too many digits as a text, an etag too long by its digest. The
same input always gives the same output, so an object that did not change is not indexed again. Metadata that remains
too much is left out, which the metadata `metadata_problem` tells. Only a key cannot be changed: an object whose key no
index can keep is refused by itself, and never more than that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final

from searchanything.core.errors import SearchAnythingError, StoreError, UnusableKeyError, UsageError
from searchanything.core.omissions import Omissions
from searchanything.core.protocols import ImageStore
from searchanything.core.types import Metadata, StoredObject

# Limits of texts are bytes of UTF-8, as Milvus counts a VARCHAR.
BUCKET_BYTES: Final = 4096
KEY_BYTES: Final = 4096
ETAG_BYTES: Final = 1024
METADATA_BYTES: Final = 60_000  # Milvus refuses JSON above 65536
METADATA_PROBLEM: Final = "metadata_problem"
INT64: Final = range(-(2**63), 2**63)
_SHOWN: Final = 5
_SHOWN_NAME: Final = 60
_UNEXPECTED: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class IncomingStore:
    """An `ImageStore` over another one, whose objects can all be kept. Thread-safe as that one is.

    Raises: UsageError where the bucket's own name cannot be kept.
    """

    def __init__(self, store: ImageStore) -> None:
        if (why := why_unusable(store.bucket, BUCKET_BYTES)) is not None:
            raise UsageError(f"{escaped(store.bucket)}: no index can keep this place's name: it {why}; rename it")
        self._store = store

    @property
    def bucket(self) -> str:
        return self._store.bucket

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
        """As the store does; keys that cannot be kept are noted in `omissions` as no objects."""
        for found in self._store.list(prefix, omissions):
            why = why_unusable(found.ref.key)
            if why is None:
                yield sound_object(found)
            elif omissions is not None:
                omissions.skip(escaped(found.ref.key)[:KEY_BYTES], f"no index can keep its key: it {why}")

    def stat(self, key: str) -> StoredObject | None:
        """As the store does. Raises: UnusableKeyError; StoreError for an answer that cannot be understood."""
        check_key(key)
        with _understood(key):
            found = self._store.stat(key)
            return None if found is None else sound_object(found)

    def read(self, key: str) -> tuple[StoredObject, bytes]:
        """As the store does. Raises: as `stat`."""
        check_key(key)
        with _understood(key):
            found, data = self._store.read(key)
            return sound_object(found), data


def incoming(store: ImageStore) -> ImageStore:
    """The store behind the border, once."""
    return store if isinstance(store, IncomingStore) else IncomingStore(store)


def why_unusable(name: str, limit: int = KEY_BYTES) -> str | None:
    """Why no index can keep this key or bucket, to follow "it"; None for one that can be kept."""
    if "\0" in name:
        return "holds a null character"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "is not UTF-8"
    return None if length <= limit else f"has {length} bytes, at most {limit} are kept"


def check_key(key: str) -> None:
    """Raises: UnusableKeyError."""
    if (why := why_unusable(key)) is not None:
        raise UnusableKeyError(f"{escaped(key)[:KEY_BYTES]}: no index can keep this key: it {why}; rename the object")


def sound_object(found: StoredObject) -> StoredObject:
    """The object with an etag, times and metadata that an index can keep. Its key is not looked at."""
    size = min(max(found.size_bytes, 0), INT64[-1])
    modified_at_ms = min(max(found.modified_at_ms, 0), INT64[-1])
    etag = found.etag or f"none-{size:x}-{modified_at_ms:x}"  # the empty one stands for an object that nobody saw
    return replace(
        found,
        etag=_sound_etag(etag),
        size_bytes=size,
        modified_at_ms=modified_at_ms,
        metadata=sound_metadata(found.metadata),
        sidecar_etag=_sound_etag(found.sidecar_etag),
    )


def sound_metadata(metadata: Mapping[Any, object]) -> Metadata:
    """Texts, finite 64-bit numbers and booleans under names that are texts, as much as a row takes."""
    sound = {_text(name): one for name, value in metadata.items() if (one := _sound_value(value)) is not None}
    if len(sound) == len(metadata) and _size(sound) <= METADATA_BYTES:
        return sound
    missing = [_text(name) for name, value in metadata.items() if _sound_value(value) is None]
    by_size = sorted(sound, key=lambda name: (_size({name: sound[name]}), name))
    room = METADATA_BYTES - 8 * _SHOWN * _SHOWN_NAME - 200
    kept: dict[str, str | int | float | bool] = {}
    for name in by_size:
        room -= _size({name: sound[name]})
        if room >= 0:
            kept[name] = sound[name]
    missing += [name for name in by_size if name not in kept]
    if missing:
        shown = ", ".join(name[:_SHOWN_NAME] for name in missing[:_SHOWN]) + (" …" if len(missing) > _SHOWN else "")
        kept[METADATA_PROBLEM] = f"left out, as no text, number or boolean, or as too long: {shown}"
    return kept


def escaped(text: str) -> str:
    """The text as UTF-8 can say it: lone surrogates by their escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _understood(key: str) -> Iterator[None]:
    """An answer that a store trips over costs this object, not the run."""
    try:
        yield
    except SearchAnythingError:
        raise
    except _UNEXPECTED as error:
        raise StoreError(
            f"{key}: the store's answer cannot be understood ({type(error).__name__}: {escaped(str(error))[:200]})"
        ) from error


def _sound_etag(etag: str) -> str:
    if etag == "" or (why_unusable(etag, ETAG_BYTES) is None):
        return etag
    return f"digest-{blake2b(etag.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def _sound_value(value: object) -> str | int | float | bool | None:
    match value:
        case bool():
            return value
        case int():
            return value if value in INT64 else hex(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return _text(value)
        case bytes():
            return _text(value.decode("utf-8", "backslashreplace"))
    return None


def _text(value: object) -> str:
    text = value if isinstance(value, str) else f"<{type(value).__name__}>"
    return escaped(text).replace("\0", "\\x00")


def _size(metadata: Metadata) -> int:
    return len(json.dumps(dict(metadata), ensure_ascii=False).encode())
