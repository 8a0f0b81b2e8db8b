"""Images in a bucket of an S3 server (MinIO, SeaweedFS, AWS …). `s3_access` reaches it, `s3_bodies` reads.

Every error of minio, urllib3 and the operating system leaves this file as a `StoreError`, by `store_error`.
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

from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from searchanything.core.errors import (
    ObjectNotFoundError,
    SearchAnythingError,
    StoreError,
    StoreUnavailableError,
)
from searchanything.core.omissions import Omissions
from searchanything.core.patience import patiently
from searchanything.core.settings import ENV_PREFIX, StorageSettings
from searchanything.core.types import ImageRef, StoredObject
from searchanything.stores.s3_access import (
    BACKOFF_S,
    BUSY_STATUS,
    RETRIES,
    PatientPool,
    S3Access,
    http_client,
    public_settings,
    s3_server,
)
from searchanything.stores.s3_bodies import ASK_CHECKSUMS, DamagedTransferError, Limits, check_body, read_body, unpacked

logger = logging.getLogger(__name__)

_LEAST_PART_BYTES = 5 << 20  # that minio accepts
_REQUESTER_PAYS = {"x-amz-request-payer": "requester"}
_METADATA_HEADER = "x-amz-meta-"

_NOT_FOUND = frozenset({"NoSuchKey", "NoSuchBucket", "ResourceNotFound"})
_REFUSED = frozenset({"AccessDenied", "SignatureDoesNotMatch", "AllAccessDisabled"})
_WRONG_KEYS = frozenset({"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed"})
# An answer to HEAD has no code, and a proxy that rewrites paths spoils the signatures of some objects alone.
_OF_KEYS_PERHAPS = frozenset({"AccessDenied", "BadRequest", "SignatureDoesNotMatch"})
_CURES = {
    "ExpiredToken": "the session token has expired, so set new keys",
    "RequestTimeTooSkewed": "set this machine's clock",
    "AuthorizationHeaderMalformed": f"set {ENV_PREFIX}STORAGE__REGION to the bucket's region",
    "PermanentRedirect": f"set {ENV_PREFIX}STORAGE__REGION to the bucket's region",
    "BadRequest": f"check {ENV_PREFIX}STORAGE__ENDPOINT, …SECURE and …REGION",
}

# ValueError: minio refuses keys such as `a/../b`, and answers whose fields are missing; SyntaxError: broken XML.
FOREIGN_ERRORS = (MinioException, HTTPError, OSError, ValueError, SyntaxError)


class BrokenOffError(StoreUnavailableError):
    """A body broke off each time that it was asked for."""


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

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._bucket

    @property
    def _client(self) -> Minio:
        return self._access.client

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:  # noqa: ARG002
        """Stream the objects whose key starts with `prefix`, in no particular order, images or not.

        Content types and metadata are not part of an S3 listing. Directory markers (keys that end in a slash) are
        left out; nothing is omitted.

        Raises: ObjectNotFoundError (no such bucket), StoreUnavailableError, StoreError.
        """
        with self._mapped(""):
            for found in self._client.list_objects(
                self._bucket, prefix=prefix or None, recursive=True, extra_headers=dict(self._headers)
            ):
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
                found = self._client.stat_object(self._bucket, key, extra_headers=dict(self._headers))
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
            return patiently(get, s3_server(self._endpoint), (HTTPError, BrokenOffError))

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
            raise _noted(mapped, error) from error


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


def _noted(mapped: StoreError, error: Exception) -> StoreError:
    """An error of ours with the notes of the one that it stands for."""
    for note in getattr(error, "__notes__", ()):
        mapped.add_note(note)
    return mapped


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


def store_error(error: Exception, *, subject: str, endpoint: str, credentials: str = "") -> StoreError:
    """An error of `FOREIGN_ERRORS` in our words: what was asked for, what went wrong, what to do. Never any keys.

    `credentials` says what was tried for some.
    """
    match error:
        case S3Error():
            return _refusal(error, subject=subject, endpoint=endpoint, credentials=credentials)
        case MaxRetryError(reason=SSLError() as reason) | (SSLError() as reason):
            return StoreUnavailableError(
                f"{subject}: no TLS connection to {endpoint}: {reason}; set {ENV_PREFIX}STORAGE__SECURE=false if the "
                "server does not speak TLS, or …CA_FILE to the certificate of its authority"
            )
        case HTTPError() | OSError():
            why = error.reason if isinstance(error, MaxRetryError) else error
            return StoreUnavailableError(
                f"{subject}: {endpoint} cannot be reached or does not answer ({type(why).__name__}: {why}); check "
                f"that the server runs, {ENV_PREFIX}STORAGE__ENDPOINT and …SECURE"
            )
        case ServerError() if error.status_code >= 500:
            return StoreUnavailableError(f"{subject}: {endpoint} answered with status {error.status_code}; try later")
        case ServerError() | InvalidResponseError() | SyntaxError() | UnicodeError():
            return StoreError(
                f"{subject}: the answer of {endpoint} is not S3 ({_one_line(error)}); check that "
                f"{ENV_PREFIX}STORAGE__ENDPOINT names the S3 port of the server and not its console"
            )
        case _:
            return StoreError(f"{subject}: cannot be asked for at {endpoint}: {_one_line(error)}")


def _refusal(error: S3Error, *, subject: str, endpoint: str, credentials: str) -> StoreError:
    """What an S3 server's own error code means."""
    code = error.code or "unknown code"
    if code in _NOT_FOUND:
        what = "object" if code == "NoSuchKey" else "bucket"
        at = "" if "/" in subject else f" at {endpoint}; check the name"  # of an object it is in answers of servers
        return ObjectNotFoundError(f"{subject}: no such {what}{at}")
    with_what = f" (credentials: {credentials})" if credentials else ""
    if code in _WRONG_KEYS or (code == "SignatureDoesNotMatch" and "/" not in subject):
        # In the midst of a run: none of its images is to count as one that failed.
        way_out = _CURES.get(code, f"check {ENV_PREFIX}STORAGE__ACCESS_KEY and …SECRET_KEY")
        return StoreUnavailableError(f"{subject}: {endpoint} denied access ({code}); {way_out}, then repeat{with_what}")
    if code in _REFUSED:
        return StoreError(
            f"{subject}: {endpoint} denied access ({code}); check {ENV_PREFIX}STORAGE__ACCESS_KEY, …SECRET_KEY and "
            f"the bucket's policy{with_what}"
        )
    if error.response.status in BUSY_STATUS:
        return StoreUnavailableError(f"{subject}: {endpoint} is overloaded or broken ({code}); try later")
    cure = _CURES.get(code)
    return StoreError(
        f"{subject}: {endpoint} refused ({code}: {_one_line(error.message)})" + (f"; {cure}" if cure else "")
    )


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


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())[:200]
