"""Whatever pymilvus, gRPC and the operating system raise becomes an error of ours; settings are checked at once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

import grpc
import pymilvus.exceptions
import pytest
from pydantic import SecretStr
from pymilvus import MilvusClient

from searchanything.core.errors import (
    IndexMismatchError,
    IndexNotFoundError,
    IndexUnavailableError,
    RegionIndexError,
    SettingsError,
)
from searchanything.core.settings import MilvusSettings
from searchanything.stores.milvus_connection import MilvusConnection
from searchanything.stores.milvus_errors import index_error
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
        (ValueError("Cannot invoke RPC on closed channel!"), RegionIndexError),
    ],
    ids=repr,
)
def test_what_an_error_becomes(error: Exception, expected: type[RegionIndexError]) -> None:
    mapped = raised(error)
    assert isinstance(mapped, expected)
    assert isinstance(mapped, IndexUnavailableError) == issubclass(expected, IndexUnavailableError)
    assert mapped.__cause__ is error


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
