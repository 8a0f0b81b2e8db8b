"""Foreign errors of pymilvus, gRPC and the operating system as errors of ours, in one place."""

from __future__ import annotations

from typing import Final

from searchanything.core.errors import IndexMismatchError, IndexNotFoundError, IndexUnavailableError, RegionIndexError
from searchanything.stores.milvus_library import MilvusException, grpc

_CODE_UNAVAILABLE: Final = 2
_CODE_ALIAS_TAKEN: Final = 1601
_MOST_CAUSES: Final = 100  # pymilvus tries again, and each attempt's error names the one before as its context
_UNREACHABLE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class TooLateError(IndexUnavailableError):
    """The time was up: trying again would double the wait."""


class NotAllowedError(RegionIndexError):
    """The user lacks a privilege, which the message names."""


class CollectionReleasedError(RegionIndexError):
    """A collection is on disk alone: it must be loaded before its rows are read, or deleted by their fields."""


class CollectionUnfinishedError(RegionIndexError):
    """A collection whose maker was killed before it had an index of its codes: nothing can have been written to it."""


_OF_COLLECTIONS: Final[dict[int | None, type[RegionIndexError]]] = {
    100: IndexNotFoundError,  # no such collection
    101: CollectionReleasedError,
    700: CollectionUnfinishedError,
    1600: IndexNotFoundError,  # no such alias
}


def index_error(error: Exception, doing: str, uri: str) -> RegionIndexError:
    """The error of ours for one of pymilvus, gRPC or the operating system."""
    what = f"{uri}: could not {doing}: {_message(error)}"
    if isinstance(error, grpc.RpcError):
        status = error.code() if isinstance(error, grpc.Call) else None
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            return TooLateError(f"{what} (no answer in time)")
        if status is grpc.StatusCode.PERMISSION_DENIED:
            return NotAllowedError(f"{what}; grant it to the user of SEARCHANYTHING_MILVUS__TOKEN")
        return IndexUnavailableError(what) if status in _UNREACHABLE else RegionIndexError(what)
    if isinstance(error, OSError):
        return IndexUnavailableError(what)
    code = error.code if isinstance(error, MilvusException) else None
    if code in _OF_COLLECTIONS:
        return _OF_COLLECTIONS[code](what)
    if code == _CODE_UNAVAILABLE and _is_unauthenticated(error):
        return RegionIndexError(f"{uri}: the server refuses user and password: check SEARCHANYTHING_MILVUS__TOKEN")
    if code == _CODE_ALIAS_TAKEN:
        return IndexMismatchError(
            f"{what}: that collection is not ours; name another SEARCHANYTHING_MILVUS__COLLECTION_PREFIX"
        )
    if code == _CODE_UNAVAILABLE:
        return IndexUnavailableError(f"{what}; is the server running, and the address right?")
    return RegionIndexError(what)


def _is_unauthenticated(error: BaseException) -> bool:
    """Whether a server that answers refused the credentials: pymilvus calls it unavailable, but names the cause."""
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if isinstance(cause, grpc.Call) and cause.code() is grpc.StatusCode.UNAUTHENTICATED:
            return True
        cause = None if cause is None else cause.__cause__ or cause.__context__
    return False


def _message(error: Exception) -> str:
    if isinstance(error, MilvusException):
        return f"{error.message} (Milvus code {error.code})"
    if isinstance(error, grpc.Call):
        return f"{error.code()}: {error.details()}"
    return str(error)
