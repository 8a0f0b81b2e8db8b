"""Rows are sent to a server once: pymilvus by itself sends them again where a connection broke before the answer."""

from __future__ import annotations

from typing import Any

import grpc
import pymilvus
import pytest
from pymilvus.client.grpc_handler import GrpcHandler
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from searchanything.stores import milvus_client
from searchanything.stores.milvus_client import RowClient

ROWS = [{"id": "a", "code": b"\0", "kind": "k", "fingerprint": "f", "number": 1, "body": ""}]
TOO_FAST, NO_ROOM = 8, 7


class BrokenError(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """As gRPC raises it where a connection breaks."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "Stream removed (Socket closed)"


class Sent:
    """What stands for the connection: each message that is sent, and what comes back, an error or Milvus' code."""

    def __init__(self, *answers: Exception | int) -> None:
        self.answers, self.messages = list(answers), list[Any]()

    def future(self, message: Any, **_: object) -> Sent:
        self.messages.append(message)
        return self

    def result(self) -> Any:
        answer = self.answers.pop(0) if self.answers else 0
        if isinstance(answer, Exception):
            raise answer
        status = common_pb2.Status(code=answer, error_code=min(answer, 1), reason="refused" if answer else "")
        return milvus_pb2.MutationResult(status=status, insert_cnt=len(ROWS))


def connected(monkeypatch: pytest.MonkeyPatch, sent: Sent) -> RowClient:
    """A client with pymilvus' own handler of connections, as far as that sends rows."""
    handler, client = GrpcHandler.__new__(GrpcHandler), RowClient.__new__(RowClient)
    handler._stub = type("Stub", (), {"Insert": sent})
    handler._address = "nowhere"
    monkeypatch.setattr(client, "_get_connection", lambda: handler, raising=False)
    monkeypatch.setattr(client, "_generate_call_context", lambda: None, raising=False)
    monkeypatch.setattr(milvus_client, "_FIRST_PAUSE_S", 0.001)
    return client


def test_rows_whose_answer_is_lost_are_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = connected(monkeypatch, sent := Sent(BrokenError()))
    with pytest.raises(BrokenError):
        client.add("c", ROWS, 20.0)
    assert len(sent.messages) == 1


def test_rows_that_come_too_fast_are_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = connected(monkeypatch, sent := Sent(TOO_FAST, TOO_FAST))
    assert client.add("c", ROWS, 20.0) == 1
    assert len(sent.messages) == 3


@pytest.mark.parametrize("code", [TOO_FAST, NO_ROOM], ids=["too fast until the time is up", "another refusal"])
def test_a_refusal_is_an_error(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    client = connected(monkeypatch, sent := Sent(*[code] * 1000))
    with pytest.raises(pymilvus.MilvusException) as raised:
        client.add("c", ROWS, 0.01)
    assert raised.value.code == code
    assert len(sent.messages) < 10
