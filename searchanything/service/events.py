"""Notifications of S3 servers → which objects may have changed.

An event is only a hint (design decision 4): whoever acts on it looks at the object as it is then. So an event's kind,
version and order do not matter here, and one hint too many costs one request to the store.

- S3's own format, as AWS, MinIO, RustFS, Ceph and the JuiceFS gateway send it: `Records[].s3.bucket.name`,
  `.s3.object.key`. Most URL-encode the key and some do not, so a key that reads differently both ways counts twice.
- SeaweedFS's filer: `key` is `/buckets/BUCKET/path` as it stands, directories and the server's own files included.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

from searchanything.core.counting import counted
from searchanything.core.errors import EventError
from searchanything.core.types import ImageRef
from searchanything.images.incoming import why_unusable

logger = logging.getLogger(__name__)

MAX_KEY_BYTES: Final = 1024  # of S3
_BUCKETS: Final = "/buckets/"
_OWN: Final = (".system", ".uploads")  # SeaweedFS keeps its own things there
_VERSIONS: Final = ".versions/"
_SHOWN_LETTERS: Final = 60


def changed_objects(document: object, lost: Callable[[str], object] = logger.warning) -> list[ImageRef]:
    """The objects that one notification is about, each once; none for messages about no object (test messages).

    A malformed record among valid ones is skipped; `lost` is called then, with what was.

    Raises: EventError for anything but a notification of a known format.
    """
    if not isinstance(document, Mapping):
        raise EventError(f"expected a JSON object with Records or event_type, got {type(document).__name__}")
    if "Records" in document:
        records = document["Records"]
        if not isinstance(records, list):
            raise EventError(f"expected a list as Records, got {type(records).__name__}")
        found = _of_records(records, lost)
    elif "event_type" in document:
        found = list(_of_filer(document))
    elif document.get("Event") == "s3:TestEvent":  # AWS sends one when notifications are switched on
        found = []
    else:
        raise EventError(f"expected a notification with Records or event_type, got one with {_shown(document)}")
    return list(dict.fromkeys(found))


def _of_records(records: Sequence[object], lost: Callable[[str], object]) -> list[ImageRef]:
    """The objects of all records. Raises: EventError if there are records, and all are malformed."""
    found: list[ImageRef] = []
    malformed: list[EventError] = []
    for record in records:
        try:
            found += _of_record(record)
        except EventError as error:
            malformed.append(error)
    if malformed and len(malformed) == len(records):
        raise malformed[0]
    if malformed:
        lost(f"{len(malformed)} of {counted(len(records), 'record')} of a notification skipped: {malformed[0]}")
    return found


def _of_record(record: object) -> Iterable[ImageRef]:
    """The object of one S3 record, by both readings of its key."""
    try:
        described = record["s3"]  # type: ignore[index]
        bucket, key = described["bucket"]["name"], described["object"]["key"]
    except (TypeError, KeyError, IndexError):
        raise EventError("expected s3.bucket.name and s3.object.key in each of Records") from None
    if not isinstance(bucket, str) or not isinstance(key, str):
        raise EventError("expected texts as s3.bucket.name and s3.object.key")
    return [ImageRef(bucket, one) for one in dict.fromkeys((unquote_plus(key), key)) if _possible(bucket, one)]


def _of_filer(document: Mapping[str, Any]) -> Iterable[ImageRef]:
    """The objects of one event of SeaweedFS's filer: the path, and after a move the new one."""
    paths: list[object] = [document.get("key")]
    message = document.get("message")
    if isinstance(message, Mapping):
        entry, folder = _entry(message), message.get("new_parent_path")
        if entry is not None and entry.get("is_directory"):
            return
        if folder and entry is not None and isinstance(entry.get("name"), str):
            paths.append(f"{folder}/{entry['name']}")
    for path in paths:
        if not isinstance(path, str):
            raise EventError(f"expected a path as key, got {type(path).__name__}")
        bucket, _, key = path.removeprefix(_BUCKETS).partition("/")
        if path.startswith(_BUCKETS) and key and bucket not in _OWN and key.partition("/")[0] not in _OWN:
            key = key.partition(_VERSIONS)[0]  # versions of an object lie in a folder named after it
            if _possible(bucket, key):
                yield ImageRef(bucket, key)


def _shown(names: Iterable[str]) -> str:
    """The first few of a notification's names, each as far as it tells anything: they are anybody's."""
    return ", ".join(repr(name[:_SHOWN_LETTERS]) for name in sorted(names)[:5]) or "none"


def _entry(message: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the filer says of the file, or of the one that was there."""
    for name in ("new_entry", "old_entry"):
        entry = message.get(name)
        if isinstance(entry, Mapping) and entry:
            return entry
    return None


def _possible(bucket: str, key: str) -> bool:
    """False for what cannot be an object's name; directory markers are none of ours."""
    named = bool(bucket and key) and not key.endswith("/")
    return named and why_unusable(bucket, MAX_KEY_BYTES) is why_unusable(key, MAX_KEY_BYTES) is None
