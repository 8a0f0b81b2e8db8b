"""`watch`'s own Prefect server: its port is nobody else's, as who connects sends the password; its schedules run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from juicefs_gateway import held_port
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from service_bench import until
from urllib3 import PoolManager, make_headers
from urllib3.exceptions import HTTPError

from searchanything.core.settings import Settings
from searchanything.service.tree import ServiceTree, deploy_flows
from searchanything_flows.automations import ensure_automations

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServiceTree]]:
    """Two that begin at once, and want the same port."""
    made = []
    with held_port() as port, ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        for name in ("one", "two"):
            settings = Settings(_env_file=None)
            settings.milvus.uri = str(tmp_path_factory.mktemp(name) / "index.db")
            settings.service.prefect_port = port
            made.append(ServiceTree("s3://images", settings))
        yield list(pool.map(stack.enter_context, made))


def status(tree: ServiceTree) -> int:
    """Of an answer to who sends the password of this tree; 0 if none comes."""
    headers = make_headers(basic_auth=tree.password)
    try:
        with PoolManager(retries=False, timeout=30.0) as http:
            return http.request("GET", f"{tree.api_url}/admin/version", headers=headers).status
    except HTTPError:
        return 0


def posted(tree: ServiceTree, path: str, body: dict[str, Any] | None = None) -> Any:
    """An answer of Prefect's REST API."""
    headers = make_headers(basic_auth=tree.password)
    with PoolManager(retries=False, timeout=30.0) as http:
        answer = http.request("POST", f"{tree.api_url}/{path}", json=body or {}, headers=headers)
    assert answer.status in (200, 201)
    return json.loads(answer.data or b"null")


def test_two_that_begin_at_once_have_a_server_each(trees: list[ServiceTree]) -> None:
    assert [status(tree) for tree in trees] == [200, 200]
    assert len({tree.api_url for tree in trees}) == 2


def test_coordinators_that_begin_at_once_register_each_automation_once(trees: list[ServiceTree]) -> None:
    async def registered() -> list[str]:
        await asyncio.gather(*(ensure_automations(None) for _ in range(3)))
        async with get_client() as client:
            return [one.name for one in await client.read_automations()]

    with temporary_settings({PREFECT_API_URL: trees[1].api_url, PREFECT_API_AUTH_STRING: str(trees[1].password)}):
        names = asyncio.run(registered())
    assert len(names) == len(set(names)) == 2


def test_runs_of_a_schedule_are_made_and_go_while_it_is_paused(
    trees: list[ServiceTree], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = trees[1]
    monkeypatch.setenv("PREFECT_API_URL", tree.api_url)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", str(tree.password))
    deploy_flows("s3://images", sync_every_s=600)
    [deployed] = [one for one in posted(tree, "deployments/filter") if one["entrypoint"].endswith(".sync.sync")]
    runs = {"flow_runs": {"deployment_id": {"any_": [deployed["id"]]}}}
    until(lambda: bool(posted(tree, "flow_runs/filter", runs)), "runs are scheduled")
    posted(tree, f"deployments/{deployed['id']}/pause_deployment")
    until(lambda: not posted(tree, "flow_runs/filter", runs), "they are gone")
    posted(tree, f"deployments/{deployed['id']}/resume_deployment")
    until(lambda: bool(posted(tree, "flow_runs/filter", runs)), "they are back")


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
