"""Images in a bucket of an S3 server (MinIO, SeaweedFS, AWS …). `s3_access` reaches it, `s3_bodies` reads.

Every error of minio, urllib3 and the operating system leaves this file as a `StoreError`, by `s3_errors`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from functools import partial
from io import BytesIO

from minio.error import S3Error
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from searchanything.core.errors import (
    ObjectNotFoundError,
    SearchAnythingError,
    StoreError,
    StoreUnavailableError,
)
from searchanything.core.omissions import Omissions
from searchanything.core.settings import ENV_PREFIX, StorageSettings
from searchanything.core.types import ImageRef, StoredObject
from searchanything.stores.s3_access import (
    BACKOFF_S,
    RETRIES,
    PatientPool,
    S3Access,
    http_client,
    public_settings,
)
from searchanything.stores.s3_alone import BrokenOffError, ObjectQuestions
from searchanything.stores.s3_bodies import ASK_CHECKSUMS, DamagedTransferError, Limits, check_body, read_body, unpacked
from searchanything.stores.s3_client import S3Client
from searchanything.stores.s3_errors import FOREIGN_ERRORS, store_error, with_notes_of

logger = logging.getLogger(__name__)

_LEAST_PART_BYTES = 5 << 20  # that minio accepts
_REQUESTER_PAYS = {"x-amz-request-payer": "requester"}
_METADATA_HEADER = "x-amz-meta-"

# An answer to HEAD has no code, and a proxy that rewrites paths spoils the signatures of some objects alone.
_OF_KEYS_PERHAPS = frozenset({"AccessDenied", "BadRequest", "SignatureDoesNotMatch"})


class S3Store:
    """An `ImageStore` over one bucket. The bucket is not looked at before the first call.

    `connections` are kept open; more threads than that may use the store, at the cost of new connections.

    Raises: SettingsError if the endpoint, the keys, a proxy or a certificate are malformed.
    """

    def __init__(self, settings: StorageSettings, bucket: str, *, connections: int = 8) -> None:
        http = http_client(settings, connections, PatientPool)
        self._access = S3Access(settings, bucket, http)
        public = settings.public_endpoint
        self._public = S3Access(public_settings(settings), bucket, http) if public else self._access
        self._endpoint = self._access.server.endpoint
        self._bucket = bucket
        self._limits = Limits(settings.max_object_bytes, settings.timeout_s)
        self._verify = settings.verify
        self._object_tags = settings.object_tags
        self._headers: dict[str, str] = dict(_REQUESTER_PAYS) if settings.requester_pays else {}
        self._questions = ObjectQuestions(self._access, bucket, self._headers)

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._bucket

    @property
    def _client(self) -> S3Client:
        return self._access.client

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:  # noqa: ARG002
        """Stream the objects whose key starts with `prefix`, in no particular order, images or not.

        Content types and metadata are not part of an S3 listing. Directory markers (keys that end in a slash) are
        left out; nothing is omitted.

        Raises: ObjectNotFoundError (no such bucket), StoreUnavailableError, StoreError.
        """
        with self._mapped(""):
            for found in self._client.list_all(self._bucket, prefix, self._headers):
                if found.object_name and not found.is_dir:
                    yield StoredObject(
                        ref=ImageRef(self._bucket, found.object_name),
                        etag=_unquoted(found.etag),
                        size_bytes=found.size or 0,
                        modified_at_ms=_whole_seconds_ms(found.last_modified),
                    )

    def stat(self, key: str) -> StoredObject | None:
        """The object as it is now, with its metadata (and its tags, if asked for); None where there is none.

        Raises: StoreUnavailableError, StoreError.
        """
        try:
            with self._mapped(key):
                ask = partial(self._client.stat_object, self._bucket, key, extra_headers=dict(self._headers))
                found = self._questions.ask(ask, key)
                return self._described(key, found.metadata or {}, found.size or 0)
        except ObjectNotFoundError:
            return None

    def read(self, key: str) -> tuple[StoredObject, bytes]:
        """The object's bytes, with the etag and metadata of exactly these bytes (all from one answer).

        They are compared with the checksum that the answer names, and unpacked where Content-Encoding says so; etag and
        size are those of the stored bytes.

        Raises: ObjectNotFoundError, StoreUnavailableError, StoreError (also where they arrive damaged each time);
        ImageError if it is larger than allowed.
        """
        headers, data = self._get(key)
        with self._mapped(key):
            return self._described(key, headers, len(data)), unpacked(key, headers, data, self._limits)

    def read_part(self, key: str, *, first: int, count: int) -> bytes:
        """`count` (> 0) bytes of an object from byte `first` on, fewer at its end; how large it is does not matter.

        Raises: ObjectNotFoundError, StoreUnavailableError, StoreError.
        """
        return self._get(key, first=first, count=count)[1]

    def _get(self, key: str, *, first: int = 0, count: int = 0) -> tuple[Mapping[str, str], bytes]:
        """An answer's headers and bytes; 0 for `count` stands for all. Bodies that break off are an outage as well."""
        limits = replace(self._limits, most_bytes=max(count, self._limits.most_bytes))
        whole = self._verify and not (first or count)
        headers = self._headers | (ASK_CHECKSUMS if whole else {})

        def ask() -> BaseHTTPResponse:
            return self._client.get_object(self._bucket, key, offset=first, length=count, request_headers=dict(headers))

        get = partial(_received, ask, ImageRef(self._bucket, key), self._endpoint, limits, whole=whole)
        with self._mapped(key):
            return self._questions.ask(get, key)

    def make_bucket(self) -> None:
        """Create the bucket; it is no error if it is there already. Raises: StoreError, StoreUnavailableError."""
        with self._mapped(""):
            if not self._client.bucket_exists(self._bucket):
                self._client.make_bucket(self._bucket)

    def remove_bucket(self) -> None:
        """Remove the empty bucket. Raises: ObjectNotFoundError, StoreError, StoreUnavailableError."""
        with self._mapped(""):
            self._client.remove_bucket(self._bucket)

    def upload(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Write an object and return its etag; metadata is ASCII. Raises: StoreError, StoreUnavailableError."""
        with self._mapped(key):
            written = self._client.put_object(
                self._bucket,
                key,
                BytesIO(data),
                len(data),
                content_type=content_type,
                metadata=dict(metadata or {}),
                part_size=max(len(data), _LEAST_PART_BYTES),  # one request: nothing is left of one that was cut off
            )
        return _unquoted(written.etag)

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if there is none. Raises: StoreError, StoreUnavailableError."""
        with self._mapped(key):
            self._client.remove_object(self._bucket, key)

    def link(self, key: str, *, age_s: float) -> str:
        """A signed address by which anyone can read the object for so many seconds, a week at most.

        It names the public endpoint, if one is set, and is good there alone.

        Raises: StoreError, StoreUnavailableError (without a public endpoint, the server is asked for the region where
        none is set).
        """
        with self._mapped(key):
            expires = timedelta(seconds=age_s)
            query: dict[str, str | list[str] | tuple[str]] = {**self._headers}
            return self._public.client.presigned_get_object(
                self._bucket, key, expires=expires, extra_query_params=query
            )

    def _described(self, key: str, headers: Mapping[str, str], size_bytes: int) -> StoredObject:
        known = {name.lower(): value for name, value in headers.items()}
        metadata = self._tags(key) | {
            name.removeprefix(_METADATA_HEADER): _header_text(value)
            for name, value in known.items()
            if name.startswith(_METADATA_HEADER)
        }
        modified = known.get("last-modified")
        return StoredObject(
            ref=ImageRef(self._bucket, key),
            etag=_unquoted(known.get("etag")),
            size_bytes=size_bytes,
            modified_at_ms=_whole_seconds_ms(parsedate_to_datetime(modified)) if modified else 0,
            content_type=known.get("content-type"),
            metadata=metadata,
        )

    def _tags(self, key: str) -> dict[str, str]:
        """The object's tags, where they are asked for."""
        return dict(self._client.get_object_tags(self._bucket, key) or {}) if self._object_tags else {}

    @contextmanager
    def _mapped(self, key: str) -> Iterator[None]:
        subject = f"{self._bucket}/{key}" if key else f"bucket {self._bucket}"
        try:
            yield
        except SearchAnythingError:
            raise  # UsageError is a ValueError too
        except FOREIGN_ERRORS as error:
            if key and isinstance(error, S3Error) and error.code in _OF_KEYS_PERHAPS:
                _check_listed(self.list(key))
            mapped = store_error(error, subject=subject, endpoint=self._endpoint, credentials=self._access.credentials)
            raise with_notes_of(mapped, error) from error


def _received(
    ask: Callable[[], BaseHTTPResponse], subject: ImageRef, endpoint: str, limits: Limits, *, whole: bool
) -> tuple[Mapping[str, str], bytes]:
    """An answer's headers and bytes, asked for again where they broke off; a whole object's are compared with what its
    headers say. Raises: StoreError, BrokenOffError, ImageError, and what asking raises.
    """
    damage: DamagedTransferError | None = None
    for attempt in range(RETRIES):
        time.sleep(BACKOFF_S * (2**attempt - 1))
        response = ask()
        try:
            body = read_body(subject.key, response, limits)
            if whole:
                check_body(response.headers, body)
        except (HTTPError, OSError) as error:
            damage = error if isinstance(error, DamagedTransferError) else None
            logger.warning("%s: broken off or damaged, attempt %d: %s", subject.key, attempt + 1, error)
        else:
            return response.headers, body
        finally:
            response.close()
            response.release_conn()
    name = f"{subject.bucket}/{subject.key}"
    if damage is not None:
        raise StoreError(
            f"{name}: arrived damaged from {endpoint} {RETRIES} times ({damage}); check the network, or upload it "
            f"again; if this server's etags are no MD5: {ENV_PREFIX}STORAGE__VERIFY=false"
        )
    raise BrokenOffError(
        f"{name}: {endpoint} broke off {RETRIES} times while sending it; check the server and the network, then try "
        "again"
    )


def _check_listed(listing: Iterator[StoredObject]) -> None:
    """Whether an object is refused for the keys alone, such as ones that were exchanged: then a listing is as well.

    Raises: StoreUnavailableError.
    """
    try:
        next(listing, None)
    except StoreUnavailableError:
        raise
    except StoreError as error:
        logger.debug("not listed, which says nothing of the keys: %s", error)


def _whole_seconds_ms(modified: datetime | None) -> int:
    """Milliseconds since 1970; in whole seconds, since listings may tell fractions that single answers do not."""
    return max(0, int(modified.timestamp())) * 1000 if modified else 0


def _unquoted(etag: str | None) -> str:
    return (etag or "").removeprefix("W/").strip('"')


def _header_text(value: str) -> str:
    """Metadata beyond ASCII: AWS sends it as RFC 2047 words, others as bare UTF-8 (which HTTP reads as Latin-1)."""
    if value.startswith("=?"):
        try:
            return str(make_header(decode_header(value)))
        except (HeaderParseError, LookupError, ValueError):
            return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value
