"""Images in a bucket of an S3 server (MinIO, SeaweedFS, AWS …). Only this and `s3_events` import `minio`.

Every error of minio, urllib3 and the operating system leaves this file as a `StoreError`, by `store_error`.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from io import BytesIO

import certifi
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from searchanything.core.errors import (
    ImageError,
    ObjectNotFoundError,
    SearchAnythingError,
    SettingsError,
    StoreError,
    StoreUnavailableError,
)
from searchanything.core.settings import ENV_PREFIX, StorageSettings
from searchanything.core.types import ImageRef, Omissions, StoredObject

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 5.0  # a server that can be reached answers a connection at once
_RETRIES = 3
_BACKOFF_S = 0.2
_CHUNK_BYTES = 1 << 18
_LEAST_PART_BYTES = 5 << 20  # that minio accepts
_SLOWEST_BYTES_PER_S = 1 << 14  # a body that trickles in more slowly than this is given up
_BUSY_STATUS = (429, 500, 502, 503, 504)
_METADATA_HEADER = "x-amz-meta-"
_DEFAULT_REGION = "us-east-1"  # of S3 and of servers that are not told another

_ENDPOINT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(\d{1,5}))?")

_NOT_FOUND = {"NoSuchKey": "no such object", "NoSuchBucket": "no such bucket", "ResourceNotFound": "no such bucket"}
_REFUSED = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AllAccessDisabled", "ExpiredToken", "InvalidToken"}
)
_CURES = {
    "RequestTimeTooSkewed": "set this machine's clock",
    "AuthorizationHeaderMalformed": f"set {ENV_PREFIX}STORAGE__REGION to the bucket's region",
    "PermanentRedirect": f"set {ENV_PREFIX}STORAGE__REGION to the bucket's region",
    "BadRequest": f"check {ENV_PREFIX}STORAGE__ENDPOINT, …SECURE and …REGION",
}

# ValueError: minio refuses keys such as `a/../b`, and answers whose fields are missing; SyntaxError: broken XML.
FOREIGN_ERRORS = (MinioException, HTTPError, OSError, ValueError, SyntaxError)


class S3Store:
    """An `ImageStore` over one bucket. The bucket is not looked at before the first call.

    `connections` are kept open; more threads than that may use the store, at the cost of new connections.

    Raises: SettingsError if the endpoint or the keys are missing or malformed.
    """

    def __init__(self, settings: StorageSettings, bucket: str, *, connections: int = 8) -> None:
        self._endpoint = _endpoint(settings)
        self._bucket = bucket
        self._timeout_s = settings.timeout_s
        self._max_object_bytes = settings.max_object_bytes
        self._object_tags = settings.object_tags
        http = http_client(settings, connections)
        self._client = s3_client(settings, http)
        self._signer = s3_client(_public(settings), http) if settings.public_endpoint else self._client

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._bucket

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:  # noqa: ARG002
        """Stream the objects whose key starts with `prefix`, in no particular order, images or not.

        Content types and metadata are not part of an S3 listing. Directory markers (keys that end in a slash) are
        left out; nothing is omitted.

        Raises: ObjectNotFoundError (no such bucket), StoreUnavailableError, StoreError.
        """
        with self._mapped(""):
            for found in self._client.list_objects(self._bucket, prefix=prefix or None, recursive=True):
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
                found = self._client.stat_object(self._bucket, key)
                return self._described(key, found.metadata or {}, found.size or 0)
        except ObjectNotFoundError:
            return None

    def read(self, key: str) -> tuple[StoredObject, bytes]:
        """The object's bytes, with the etag and metadata of exactly these bytes (all from one answer).

        Raises: ObjectNotFoundError, StoreUnavailableError, StoreError; ImageError if it is larger than allowed.
        """
        headers, data = self._get(key)
        with self._mapped(key):
            return self._described(key, headers, len(data)), data

    def read_part(self, key: str, *, first: int, count: int) -> bytes:
        """`count` (> 0) bytes of an object from byte `first` on, fewer at its end; how large it is does not matter.

        Raises: ObjectNotFoundError, StoreUnavailableError, StoreError.
        """
        return self._get(key, first=first, count=count)[1]

    def _get(self, key: str, *, first: int = 0, count: int = 0) -> tuple[Mapping[str, str], bytes]:
        """An answer's headers and bytes; 0 for `count` stands for all."""
        with self._mapped(key):
            for attempt in range(_RETRIES):
                time.sleep(_BACKOFF_S * (2**attempt - 1))
                response = self._client.get_object(self._bucket, key, offset=first, length=count)
                try:
                    return response.headers, self._body(key, response, most=max(count, self._max_object_bytes))
                except (HTTPError, OSError) as error:
                    logger.info("%s: broken off, attempt %d: %s", key, attempt + 1, error)
                finally:
                    response.close()
                    response.release_conn()
        raise StoreUnavailableError(
            f"{self._bucket}/{key}: {self._endpoint} broke off {_RETRIES} times while sending it; "
            "check the server and the network, then try again"
        )

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
            return self._signer.presigned_get_object(self._bucket, key, expires=timedelta(seconds=age_s))

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

    def _body(self, key: str, response: BaseHTTPResponse, *, most: int) -> bytes:
        """The stored bytes as they are (never decompressed), within the limits of size and time."""
        self._check_size(key, int(response.headers.get("content-length", 0)), most)
        started = time.monotonic()
        body = bytearray()
        # read1 returns with what has come, so that a trickling sender is noticed.
        while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
            body += chunk
            self._check_size(key, len(body), most)
            if time.monotonic() - started > self._timeout_s + len(body) / _SLOWEST_BYTES_PER_S:
                raise TimeoutError(f"only {len(body)} bytes came in {time.monotonic() - started:.0f} s")
        return bytes(body)

    def _check_size(self, key: str, size_bytes: int, most: int) -> None:
        if size_bytes > most:
            raise ImageError(
                key,
                f"has {size_bytes} bytes or more, and {ENV_PREFIX}STORAGE__MAX_OBJECT_BYTES allows "
                f"{self._max_object_bytes}",
            )

    @contextmanager
    def _mapped(self, key: str) -> Iterator[None]:
        subject = f"{self._bucket}/{key}" if key else f"bucket {self._bucket}"
        try:
            yield
        except SearchAnythingError:
            raise  # UsageError is a ValueError too
        except FOREIGN_ERRORS as error:
            raise store_error(error, subject=subject, endpoint=self._endpoint) from error


def store_error(error: Exception, *, subject: str, endpoint: str) -> StoreError:
    """An error of `FOREIGN_ERRORS` in our words: what was asked for, what went wrong, what to do. Never any keys."""
    match error:
        case S3Error():
            return _refusal(error, subject=subject, endpoint=endpoint)
        case MaxRetryError(reason=SSLError() as reason) | (SSLError() as reason):
            return StoreUnavailableError(
                f"{subject}: no TLS connection to {endpoint}: {reason}; set {ENV_PREFIX}STORAGE__SECURE=false if the "
                "server does not speak TLS, or SSL_CERT_FILE to the certificate of its authority"
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


def _refusal(error: S3Error, *, subject: str, endpoint: str) -> StoreError:
    """What an S3 server's own error code means."""
    code = error.code or "unknown code"
    if code in _NOT_FOUND:
        return ObjectNotFoundError(f"{subject}: {_NOT_FOUND[code]} at {endpoint}; check the name")
    if code in _REFUSED:
        return StoreError(
            f"{subject}: {endpoint} denied access ({code}); check {ENV_PREFIX}STORAGE__ACCESS_KEY, …SECRET_KEY and "
            "the bucket's policy"
        )
    if error.response.status in _BUSY_STATUS:
        return StoreUnavailableError(f"{subject}: {endpoint} is overloaded or broken ({code}); try later")
    cure = _CURES.get(code)
    return StoreError(
        f"{subject}: {endpoint} refused ({code}: {_one_line(error.message)})" + (f"; {cure}" if cure else "")
    )


def _endpoint(settings: StorageSettings) -> str:
    """The checked endpoint. A wrong one is shown only if it cannot hold a password."""
    endpoint, variable = settings.endpoint, f"{ENV_PREFIX}STORAGE__ENDPOINT"
    if not endpoint:
        raise SettingsError(f"no S3 server is named; set {variable} to its host and port, such as localhost:9000")
    if "@" in endpoint:
        raise SettingsError(f"{variable} holds an '@'; keys go into {ENV_PREFIX}STORAGE__ACCESS_KEY and …SECRET_KEY")
    bare = re.sub(r"^https?://", "", endpoint).rstrip("/")
    found = _ENDPOINT.fullmatch(endpoint)
    if not found:
        secure = f" and {ENV_PREFIX}STORAGE__SECURE=false" if endpoint.startswith("http://") else ""
        instead = f"; write {bare}{secure}" if bare != endpoint and _ENDPOINT.fullmatch(bare) else ""
        raise SettingsError(f"{variable}: expected host:port without scheme and path, got '{endpoint}'{instead}")
    if found[1] and not 0 < int(found[1]) < 65536:
        raise SettingsError(f"{variable}: expected a port from 1 to 65535, got '{endpoint}'")
    if bool(settings.access_key) != bool(settings.secret_key):
        raise SettingsError(f"set both {ENV_PREFIX}STORAGE__ACCESS_KEY and …SECRET_KEY, or neither (anonymous access)")
    return endpoint


def _public(settings: StorageSettings) -> StorageSettings:
    """The server as browsers see it; it may be out of our reach, so its region is never asked for."""
    address = settings.public_endpoint
    if not address:
        return settings
    scheme, _, host = address.rstrip("/").rpartition("://")
    if scheme not in ("http", "https") or not _ENDPOINT.fullmatch(host):
        raise SettingsError(
            f"{ENV_PREFIX}STORAGE__PUBLIC_ENDPOINT: expected an address such as https://s3.example.org, got '{address}'"
        )
    change = {"endpoint": host, "secure": scheme == "https", "region": settings.region or _DEFAULT_REGION}
    return settings.model_copy(update=change)


def s3_client(settings: StorageSettings, http: PoolManager) -> Minio:
    """minio's client over these connections. Raises: SettingsError if endpoint or keys are missing or malformed."""
    try:
        return Minio(
            _endpoint(settings),
            access_key=settings.access_key.get_secret_value() if settings.access_key else None,
            secret_key=settings.secret_key.get_secret_value() if settings.secret_key else None,
            secure=settings.secure,
            region=settings.region,
            http_client=http,
        )
    except SettingsError:
        raise  # it is a ValueError too
    except ValueError as error:
        raise SettingsError(f"{ENV_PREFIX}STORAGE__ENDPOINT or …REGION cannot be used: {error}") from None


def http_client(
    settings: StorageSettings, connections: int, *, kind: Callable[..., PoolManager] = PoolManager
) -> PoolManager:
    """Connections with bounded waits. Requests are repeated after I/O errors and busy answers, never after refusals."""
    retries = Retry(
        total=_RETRIES,
        backoff_factor=_BACKOFF_S,
        backoff_jitter=_BACKOFF_S,
        status_forcelist=_BUSY_STATUS,
        respect_retry_after_header=False,  # it may ask for hours
        redirect=0,
    )
    return kind(
        num_pools=4,
        maxsize=connections,
        timeout=Timeout(connect=min(_CONNECT_TIMEOUT_S, settings.timeout_s), read=settings.timeout_s),
        retries=retries,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
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
