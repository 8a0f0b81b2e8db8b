"""Foreign errors of pymilvus, gRPC and the operating system as errors of ours, in one place."""

from __future__ import annotations

from typing import Final

from searchanything.core.errors import IndexNotFoundError, IndexUnavailableError, RegionIndexError
from searchanything.stores.milvus_library import MilvusException, grpc

_CODE_UNAVAILABLE: Final = 2
_CODE_COLLECTION_MISSING: Final = 100
_CODE_NOT_LOADED: Final = 101
_CODE_ALIAS_MISSING: Final = 1600
_UNREACHABLE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class TooLateError(IndexUnavailableError):
    """The time was up: trying again would double the wait."""


class CollectionReleasedError(RegionIndexError):
    """A collection is on disk alone: it must be loaded before its rows are read, or deleted by their fields."""


def index_error(error: Exception, doing: str, uri: str) -> RegionIndexError:
    """The error of ours for one of pymilvus, gRPC or the operating system."""
    what = f"{uri}: could not {doing}: {_message(error)}"
    if isinstance(error, grpc.RpcError):
        status = error.code() if isinstance(error, grpc.Call) else None
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            return TooLateError(f"{what} (no answer in time)")
        return IndexUnavailableError(what) if status in _UNREACHABLE else RegionIndexError(what)
    if isinstance(error, OSError):
        return IndexUnavailableError(what)
    code = error.code if isinstance(error, MilvusException) else None
    if code in (_CODE_COLLECTION_MISSING, _CODE_ALIAS_MISSING):
        return IndexNotFoundError(what)
    if code == _CODE_NOT_LOADED:
        return CollectionReleasedError(what)
    if code == _CODE_UNAVAILABLE:
        return IndexUnavailableError(f"{what}; is the server running, and the address right?")
    return RegionIndexError(what)


def _message(error: Exception) -> str:
    if isinstance(error, MilvusException):
        return f"{error.message} (Milvus code {error.code})"
    if isinstance(error, grpc.Call):
        return f"{error.code()}: {error.details()}"
    return str(error)
