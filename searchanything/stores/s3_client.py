"""minio's client, where servers other than AWS and MinIO differ from what it expects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from minio import Minio
from minio.datatypes import Object
from minio.error import S3Error
from urllib3 import BaseHTTPResponse

from searchanything.core.errors import StoreError

DEFAULT_REGION: Final = "us-east-1"  # of S3 and of servers that are not told another

# Rights for one bucket often lack `GetBucketLocation`; others than AWS need not know it, or take another region's
# signature for an error, in which they name theirs.
_NO_LOCATION: Final = frozenset(
    {"AccessDenied", "AuthorizationHeaderMalformed", "InvalidRegion", "MethodNotAllowed", "NoSuchKey", "NotImplemented"}
)
_WRONG_REGION: Final = frozenset({"AuthorizationHeaderMalformed", "BadRequest"})  # BadRequest: of a HEAD, by minio
_REGION: Final = re.compile(rb"<Region>([A-Za-z0-9-]+)</Region>")


class S3Client(Minio):
    """minio's client. A server that does not say where a bucket is counts as one of a single region."""

    def list_all(self, bucket: str, prefix: str, headers: Mapping[str, str]) -> Iterator[Object]:
        """The objects whose key starts with `prefix`, in the server's order.

        Raises: StoreError for a listing without an end, and what a request raises.
        """
        found: Iterator[Object] = self.list_objects(
            bucket,
            prefix=prefix or None,
            recursive=True,
            extra_headers=dict(headers),
            extra_query_params=_Page(bucket),
        )
        return found

    def _get_region(self, bucket_name: str | None = None) -> str:
        try:
            return super()._get_region(bucket_name).strip() or DEFAULT_REGION
        except S3Error as error:
            if error.code not in _NO_LOCATION or bucket_name is None:
                raise
            self._region_map[bucket_name] = region = _named_region(error) or DEFAULT_REGION
            return region

    def _execute(self, method: str, bucket_name: str | None = None, *args: Any, **options: Any) -> BaseHTTPResponse:  # noqa: ANN401
        """As minio's. Where another region's signature is refused with that region's name, it is asked once more."""
        try:
            return super()._execute(method, bucket_name, *args, **options)
        except S3Error as error:
            named = _named_region(error)
            if error.code not in _WRONG_REGION or bucket_name is None or self._base_url.region or named is None:
                raise
            if named == self._region_map.get(bucket_name):
                raise
            self._region_map[bucket_name] = named
        return super()._execute(method, bucket_name, *args, **options)


class _Page(dict[str, Any]):
    """The parameters of a listing, which minio sets again for each page. A page is never asked for twice in a row."""

    def __init__(self, bucket: str) -> None:
        super().__init__({"list-type": "2"})
        self._bucket = bucket
        self._token: str | None = None

    def __setitem__(self, name: str, value: Any) -> None:  # noqa: ANN401
        if name == "start-after":  # minio repeats the token by this name, as if it were a key
            return
        super().__setitem__(name, value)
        if name == "prefix":  # set for each page, after its token
            token = self.get("continuation-token", "")
            if token == self._token:
                raise StoreError(
                    f"bucket {self._bucket}: the server gives the same page of its listing again and again; it has to "
                    "know ListObjectsV2 with continuation tokens"
                )
            self._token = token


def _named_region(error: S3Error) -> str | None:
    """The region that an error asks for, or says that the bucket is in."""
    if named := _REGION.search(error.response.data or b""):
        return named[1].decode()
    return error.response.headers.get("x-amz-bucket-region")
