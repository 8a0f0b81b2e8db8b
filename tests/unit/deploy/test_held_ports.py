"""Ports of the local stack: nobody else is given one, and its server listens there as often as it is started."""

from __future__ import annotations

import socket

import pytest

from deploy.local import holding_a_port


def test_a_server_listens_again_and_again_where_nobody_else_is_put() -> None:
    with holding_a_port() as holder:
        address = holder.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        for _ in range(2):
            with socket.create_server(address), socket.create_connection(address):
                pass
        with socket.socket() as another, pytest.raises(OSError, match="in use"):
            another.bind(address)
