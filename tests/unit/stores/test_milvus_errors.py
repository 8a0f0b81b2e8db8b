"""Whatever pymilvus, gRPC and the operating system raise becomes an error of ours; settings are checked at once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np
import pymilvus.exceptions
import pytest
from contracts.index_rows import BITS, manifest_of
from pydantic import SecretStr
from pymilvus import MilvusClient
from pymilvus.decorators import retry_on_rpc_failure

from searchanything.cli.failures import cure_of
from searchanything.core.errors import (
    IndexMismatchError,
    IndexNotFoundError,
    IndexUnavailableError,
    RegionIndexError,
    SettingsError,
)
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import Filter
from searchanything.stores.milvus_connection import MilvusConnection
from searchanything.stores.milvus_errors import index_error
from searchanything.stores.milvus_index import MilvusRegionIndex
from searchanything.stores.milvus_opening import open_milvus


class _Host:
    """An embedded server that is not there."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def acquire(self) -> str:
        return str(self.file)


def test_nobody_pings_the_embedded_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, dict[str, int]]] = []
    open_channel = grpc.insecure_channel

    def client(_self: object, uri: str, *, grpc_options: dict[str, int], **_options: object) -> None:
        made.append((uri, grpc_options))

    def channel(uri: str, *, options: Sequence[tuple[str, int]]) -> grpc.Channel:
        made.append((uri, dict(options)))
        return open_channel(uri, options=options)

    (socket := tmp_path / "socket").touch()
    monkeypatch.setattr(MilvusClient, "__init__", client)
    monkeypatch.setattr(MilvusClient, "has_collection", lambda _self, _name, timeout: timeout > 0)
    monkeypatch.setattr(grpc, "insecure_channel", channel)
    assert MilvusConnection(MilvusSettings(uri="i.db"), _Host(socket)).has_collection("c")  # type: ignore[arg-type]
    day_ms = 24 * 3600 * 1000  # Milvus Lite ends connections that ping more often than every five minutes
    patient = [(uri, options["grpc.keepalive_time_ms"] > day_ms) for uri, options in made]
    assert patient == [(f"unix:{socket}", True)] * 2


@pytest.mark.parametrize("uri", ["htps://user:SECRET@host", "user:SECRET@host:19530"])
def test_an_address_that_is_refused_is_told_without_its_credentials(uri: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_milvus(MilvusSettings(uri=uri))
    assert "SECRET" not in str(caught.value)
    assert "host" in str(caught.value)


URI = "http://localhost:19530"
MILVUS_ERRORS = [
    one
    for _, one in inspect.getmembers(pymilvus.exceptions, inspect.isclass)
    if issubclass(one, Exception) and one.__module__ == pymilvus.exceptions.__name__
]


class RpcFailure(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """As gRPC raises it: an error that is a call as well."""

    def __init__(self, status: grpc.StatusCode) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return "the details"

    def _unused(self, *_: object) -> None:
        raise AssertionError("pymilvus asks for code and details alone")

    initial_metadata = trailing_metadata = is_active = time_remaining = cancel = add_callback = _unused


def raised(error: Exception) -> RegionIndexError:
    def fail() -> None:
        raise error

    with pytest.raises(RegionIndexError) as caught:
        MilvusConnection(MilvusSettings(uri=URI))._once("search", fail)
    return caught.value


def test_there_are_errors_to_be_mapped() -> None:
    assert pymilvus.exceptions.MilvusException in MILVUS_ERRORS
    assert len(MILVUS_ERRORS) > 10


@pytest.mark.parametrize("kind", MILVUS_ERRORS, ids=lambda kind: kind.__name__)
def test_no_error_of_pymilvus_gets_through(kind: type[Exception]) -> None:
    error = kind(message="boom") if issubclass(kind, pymilvus.exceptions.MilvusException) else kind("boom")
    told = str(raised(error))
    assert "boom" in told
    assert URI in told
    assert "search" in told


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (pymilvus.MilvusException(code=2, message="refused"), IndexUnavailableError),
        (pymilvus.MilvusException(code=100, message="no collection"), IndexNotFoundError),
        (pymilvus.MilvusException(code=1600, message="no alias"), IndexNotFoundError),
        (pymilvus.MilvusException(code=65535, message="odd"), RegionIndexError),
        (RpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED), IndexUnavailableError),
        (RpcFailure(grpc.StatusCode.UNAVAILABLE), IndexUnavailableError),
        (RpcFailure(grpc.StatusCode.CANCELLED), IndexUnavailableError),
        (RpcFailure(grpc.StatusCode.RESOURCE_EXHAUSTED), RegionIndexError),
        (ConnectionResetError("reset"), IndexUnavailableError),
        (TimeoutError("late"), IndexUnavailableError),
        (ValueError("Cannot invoke RPC on closed channel!"), IndexUnavailableError),
        (
            pymilvus.MilvusException(message="Unexpected error, message=<Cannot invoke RPC: Channel closed!>"),
            IndexUnavailableError,
        ),
        (pymilvus.MilvusException(message="no such field"), RegionIndexError),
    ],
    ids=repr,
)
def test_what_an_error_becomes(error: Exception, expected: type[RegionIndexError]) -> None:
    mapped = raised(error)
    assert isinstance(mapped, expected)
    assert isinstance(mapped, IndexUnavailableError) == issubclass(expected, IndexUnavailableError)
    assert mapped.__cause__ is error


NOT_NOW = {
    1: "service not ready[standalone=1]: Abnormal",
    4: "request limit exceeded",
    8: "rate limit exceeded[rate=1]",
    9: "quota exceeded[reason=memory quota exceeded]",
    11: "time tick long delay",
    12: "service resource insufficient",
    103: "collection not fully loaded",
    106: "collection on recovering",
    110: "collection schema version not ready",
    202: "partition not fully loaded",
    305: "resource group service unavailable",
    400: "replica not found",
    401: "replica not available",
    500: "channel not found",
    501: "channel lacks",
    503: "channel lacks[channel=channel not subscribed]: channel not available[channel=dml_2v0]",
    504: "channel checkpoint exceed max lag",
    505: "channel tsafe stalled",
    507: "channel misrouted: not owned by this node",
    600: "segment not found",
    601: "segment not loaded",
    602: "segment lacks",
    604: "segment load failed",
    605: "segment request resource failed",
    901: "node not found",
    902: "node offline",
    903: "node lacks",
    904: "node not match",
    905: "node not available",
    906: "node state unexpected",
    1001: "IO failed",
    1002: "unexpected EOF",
    1003: "too many requests",
    1302: "message queue internal error",
    10000: "context canceled",
    10001: "context deadline exceeded",
    65535: "empty grpc client: find no available rootcoord, check rootcoord state",
}
FOR_GOOD = {
    3: "memory limit exceeded",
    5: "service internal error",
    7: "disk limit exceeded",
    10: "service unimplemented",
    102: "exceeded the limit number of collections",
    105: "illegal collection schema",
    109: "collection schema mismatch",
    250: "general capacity exceeded",
    502: "channel reduplicates",
    701: "index type not supported",
    800: "database not found",
    1000: "key not found",
    1100: "invalid parameter",
    1102: "parameter too large",
    1401: "privilege not permitted",
    1700: "field not found",
    2000: "segcore error",
    3000: "unsupported operation",
    65535: "unexpected error",
}


@pytest.mark.parametrize("code", NOT_NOW)
def test_what_a_server_cannot_do_now_is_tried_again(code: int) -> None:
    """Codes of Milvus' `merr`, releases 2.3 to 3.0; the messages of 1, 503 and 65535 are those of a server of 2.3.5."""
    mapped = raised(pymilvus.MilvusException(code=code, message=NOT_NOW[code], retriable=code == 1))
    assert isinstance(mapped, IndexUnavailableError)
    assert NOT_NOW[code] in str(mapped)


@pytest.mark.parametrize("code", FOR_GOOD)
def test_what_a_server_refuses_for_good_is_not(code: int) -> None:
    assert not isinstance(raised(pymilvus.MilvusException(code=code, message=FOR_GOOD[code])), IndexUnavailableError)


def test_an_answer_that_takes_too_long_says_which_setting_allows_more() -> None:
    """Where the server is would be no help: it answers, and takes its time."""
    error = raised(RpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED))
    assert "raise SEARCHANYTHING_MILVUS__TIMEOUT_S" in str(error)
    assert cure_of(error) is None
    assert cure_of(raised(RpcFailure(grpc.StatusCode.UNAVAILABLE))) == "check --uri, then: searchanything doctor"


def test_a_server_can_say_itself_that_the_same_may_succeed() -> None:
    assert isinstance(raised(pymilvus.MilvusException(code=4242, message="new", retriable=True)), IndexUnavailableError)


@pytest.mark.parametrize(
    ("status", "away"),
    [
        (grpc.StatusCode.UNAVAILABLE, True),
        (grpc.StatusCode.CANCELLED, True),
        (grpc.StatusCode.INTERNAL, False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, True),
    ],
)
def test_a_server_that_pymilvus_tried_to_reach_until_the_time_was_up_is_away(
    status: grpc.StatusCode, away: bool
) -> None:
    @retry_on_rpc_failure()
    def ask(_handler: object, timeout: float) -> None:  # noqa: ARG001
        raise RpcFailure(status)

    with pytest.raises((pymilvus.MilvusException, grpc.RpcError)) as caught:
        ask(object(), timeout=0.01)
    assert isinstance(raised(caught.value), IndexUnavailableError) == away


class Answering:
    """A client of a server that answers with an error, once or always."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.closed = False

    def has_collection(self, name: str, timeout: float) -> bool:
        raise pymilvus.MilvusException(code=self.code, message=f"{name} {timeout}")

    def nearest(self, asked: object, timeout_s: float) -> list[object]:  # noqa: ARG002
        raise pymilvus.MilvusException(code=self.code, message="no")

    def load_collection(self, name: str, timeout: float) -> None:
        """It is loaded."""

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("code", "closed"), [(503, False), (2, True)])
def test_a_server_that_answers_keeps_its_connection(monkeypatch: pytest.MonkeyPatch, code: int, closed: bool) -> None:
    """Other threads' writes would be cut off in the middle."""
    connection = MilvusConnection(MilvusSettings(uri=URI))
    monkeypatch.setattr(connection, "_connect", lambda _: client)
    client = Answering(code)
    with pytest.raises(IndexUnavailableError):
        connection.has_collection("a")
    assert client.closed == closed


@pytest.mark.parametrize("code", [101, 503])
def test_a_question_with_an_expression_is_no_wrong_question_while_the_server_cannot_answer(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """101 although it is loaded: as of a server that has just started."""
    connection = MilvusConnection(MilvusSettings(uri=URI))
    monkeypatch.setattr(connection, "_connect", lambda _: Answering(code))
    index = MilvusRegionIndex(connection, manifest_of("f" * 64), ("regions", "images"), kind="BIN_FLAT")
    with pytest.raises(IndexUnavailableError):
        index.search(np.zeros((1, BITS // 8), np.uint8), limit=1, filter=Filter(expression="area_px > 1"))


def test_refused_credentials_are_no_server_that_is_away() -> None:
    error: Exception = RpcFailure(grpc.StatusCode.UNAUTHENTICATED)
    for _ in range(3):  # as pymilvus nests its attempts
        (later := RpcFailure(grpc.StatusCode.UNKNOWN)).__context__ = error
        error = later
    (told := pymilvus.MilvusException(code=2, message="Fail connecting to server")).__cause__ = error
    mapped = raised(told)
    assert not isinstance(mapped, IndexUnavailableError)
    assert "SEARCHANYTHING_MILVUS__TOKEN" in str(mapped)
    told.__cause__ = RpcFailure(grpc.StatusCode.UNAVAILABLE)
    assert isinstance(raised(told), IndexUnavailableError)


def test_a_collection_where_an_alias_belongs_is_told() -> None:
    mapped = raised(pymilvus.MilvusException(code=1601, message="alias and collection name conflict"))
    assert isinstance(mapped, IndexMismatchError)
    assert "COLLECTION_PREFIX" in str(mapped)


def test_errors_of_ours_pass_unchanged() -> None:
    error = IndexNotFoundError("gone")
    assert raised(error) is error


def test_credentials_are_never_told() -> None:
    connection = MilvusConnection(MilvusSettings(uri="http://me:s3cret@127.0.0.1:1", token=SecretStr("tok3n")))
    assert connection.uri == "http://127.0.0.1:1"
    with pytest.raises(IndexUnavailableError) as caught:
        connection.has_collection("a")
    assert "s3cret" not in str(caught.value)
    assert "tok3n" not in str(caught.value)
    assert isinstance(index_error(OSError("x"), "do", URI), IndexUnavailableError)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (MilvusSettings(uri="ftp://host"), "http"),
        (MilvusSettings(uri="a name.db"), "36"),
        (MilvusSettings(uri="http://host:19530/project"), "MILVUS__DATABASE"),
        (MilvusSettings(uri="index.db", index_type="BIN_IVF_FLAT"), "BIN_FLAT"),
    ],
)
def test_settings_that_cannot_work(settings: MilvusSettings, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        open_milvus(settings)


def test_mutual_tls_wants_all_three_files() -> None:
    store = open_milvus(MilvusSettings(uri="https://127.0.0.1:1", client_cert_file=Path("client.pem")))
    with pytest.raises(SettingsError, match="ca_file"):
        store.live()
