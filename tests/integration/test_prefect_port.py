"""The port of `watch`'s own Prefect server: whoever connects to it sends the password, so it is nobody else's."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from juicefs_gateway import free_port
from service_bench import until
from urllib3 import PoolManager, make_headers
from urllib3.exceptions import HTTPError

from searchanything.core.settings import Settings
from searchanything.service.tree import ServiceTree

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServiceTree]]:
    """Two that begin at once, and want the same port."""
    port, made = free_port(), []
    for name in ("one", "two"):
        settings = Settings(_env_file=None)
        settings.milvus.uri = str(tmp_path_factory.mktemp(name) / "index.db")
        settings.service.prefect_port = port
        made.append(ServiceTree("s3://images", settings))
    with ExitStack() as stack, ThreadPoolExecutor(len(made)) as pool:
        yield list(pool.map(stack.enter_context, made))


def status(tree: ServiceTree) -> int:
    """Of an answer to who sends the password of this tree; 0 if none comes."""
    headers = make_headers(basic_auth=tree.password)
    try:
        with PoolManager(retries=False, timeout=30.0) as http:
            return http.request("GET", f"{tree.api_url}/admin/version", headers=headers).status
    except HTTPError:
        return 0


def test_two_that_begin_at_once_have_a_server_each(trees: list[ServiceTree]) -> None:
    assert [status(tree) for tree in trees] == [200, 200]
    assert len({tree.api_url for tree in trees}) == 2


def test_nobody_takes_the_port_while_the_server_is_away(trees: list[ServiceTree]) -> None:
    tree = trees[0]
    address = ("127.0.0.1", int(tree.api_url.removesuffix("/api").rpartition(":")[2]))
    [server] = Path(f"/proc/{tree.pids['prefect']}/task/{tree.pids['prefect']}/children").read_text().split()[:1]
    os.kill(int(server), signal.SIGKILL)
    until(lambda: not Path(f"/proc/{server}/fd").exists(), "it is gone")
    with pytest.raises(OSError, match="in use"), socket.create_server(address):
        pass
    threading.Thread(target=tree.run, daemon=True).start()
    until(lambda: status(tree) == 200, "it is back")
    tree.stop()
