"""Foreign errors of pymilvus, gRPC and the operating system as errors of ours, in one place."""

from __future__ import annotations

from typing import Final

from searchanything.core.errors import IndexMismatchError, IndexNotFoundError, IndexUnavailableError, RegionIndexError
from searchanything.core.settings import ENV_PREFIX
from searchanything.stores.milvus_library import MilvusException, grpc

_CODE_UNAVAILABLE: Final = 2
_CODE_ALIAS_TAKEN: Final = 1601
_MOST_CAUSES: Final = 100  # pymilvus tries again, and each attempt's error names the one before as its context
_UNREACHABLE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_AWAY: Final = (
    "Cannot invoke RPC",  # gRPC's ValueError on a channel that another thread closed, or pymilvus' error of it
    "find no available",  # a part of Milvus that another part cannot reach: it has no code of its own (65535)
)


class TooLateError(IndexUnavailableError):
    """The time was up: trying again would double the wait."""


class NotNowError(IndexUnavailableError):
    """The server answers, but a part of it is not ready, or overloaded: the same may succeed soon."""


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

_NOT_NOW: Final = frozenset({
    4, 8, 9, 11, 12,  # too many requests, too fast, back pressure of its quotas, time ticks are late, no resources
    103, 106, 110, 202,  # a collection (partition) that is being loaded or recovered, or whose schema is changing
    305, 400, 401,  # a resource group, or a replica
    500, 501, 503, 504, 505, 507,  # a channel
    600, 601, 602, 604, 605,  # a segment
    901, 902, 903, 904, 905, 906,  # a node
    1001, 1002, 1003, 1302,  # the storage, or the message queue
    10000, 10001,  # the server itself gave up, or waited too long for one of its parts
})  # fmt: skip
"""Codes of Milvus' `merr`, releases 2.3 to 3.0. Not all are flagged as retriable there, nor is the flag kept by all."""


def index_error(error: Exception, doing: str, uri: str) -> RegionIndexError:
    """The error of ours for one of pymilvus, gRPC or the operating system."""
    what = f"{uri}: could not {doing}: {_message(error)}"
    status = _status(error)
    if status is not None or isinstance(error, grpc.RpcError):
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            return TooLateError(
                f"{what} (no answer in time); if it is large, or its machine busy, raise {ENV_PREFIX}MILVUS__TIMEOUT_S"
            )
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
    if code in _NOT_NOW or (isinstance(error, MilvusException) and error.retriable):
        return NotNowError(what)
    return IndexUnavailableError(what) if any(words in what for words in _AWAY) else RegionIndexError(what)


def _status(error: Exception) -> grpc.StatusCode | None:
    """gRPC's, which pymilvus gives as the code of an error of its own where it tried again until the time was up."""
    if isinstance(error, MilvusException):
        return error.code if isinstance(error.code, grpc.StatusCode) else None
    return error.code() if isinstance(error, grpc.Call) else None


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
