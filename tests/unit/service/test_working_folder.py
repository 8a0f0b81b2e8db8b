"""A working directory may be from anybody, as an unpacked archive is: nothing in it is run, and it steers nothing."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from searchanything.cli import checks, warm, watch
from searchanything.core.errors import ServiceError
from searchanything.core.settings import Settings, load_settings
from searchanything.service import cluster
from searchanything.service.children import ended, started
from searchanything.service.tree import absolute_source, child_settings, deploy_flows

MARK = "it-was-run"


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; `MARK` lies in it once one of its modules was imported."""
    folder = tmp_path / "unpacked"
    folder.mkdir()
    program = f"open({str(folder / MARK)!r}, 'w').close()\nraise ImportError('hostile')\n"
    for name in ("json", "logging", "searchanything", "searchanything_flows"):
        (folder / f"{name}.py").write_text(program)
    (folder / ".env").write_text("PREFECT_SERVER_API_PORT=666\nSEARCHANYTHING_MILVUS__URI=http://evil.example\n")
    (folder / "prefect.toml").write_text('[server.api]\nhost = "evil.example"\n')
    (folder / "pyproject.toml").write_text("[tool.prefect.server.api]\nmax_parameter_size = 666\n")
    monkeypatch.chdir(folder)
    return folder


def test_doctor_runs_nothing_of_it(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LIBRARIES", ("numpy",))
    assert [finding.state for finding in checks.libraries_load()] == ["ok"]
    assert not (hostile / MARK).exists()


def test_the_warm_process_runs_nothing_of_it(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hostile.parent / "own.env").touch()
    monkeypatch.setenv("SEARCHANYTHING_ENV_FILE", "../own.env")
    monkeypatch.setenv("SEARCHANYTHING_SERVE__WARM_IDLE_S", "0")  # it ends at once
    found = warm._started(hostile.parent / "socket")
    if found is not None:
        found.close()
    assert not (hostile / MARK).exists()


def test_deploying_runs_nothing_of_it(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "no address")
    with pytest.raises(ServiceError, match="could not be deployed"):
        deploy_flows(".", sync_every_s=None)
    assert not (hostile / MARK).exists()


def test_it_steers_no_child_of_the_service(hostile: Path) -> None:
    program = (
        "import json; from prefect.settings import get_current_settings; api = get_current_settings().server.api; "
        "print(json.dumps([api.port, api.host, api.max_parameter_size]))"
    )
    environment = {**os.environ, **child_settings(load_settings())}
    with (hostile.parent / "log").open("wb") as log:
        child = started([sys.executable, "-c", program], environment, log=log, stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        port, host, largest = json.loads(child.stdout.read())
    finally:
        ended(child)
    assert (port, host) == (4200, "127.0.0.1")
    assert largest != 666
    assert not (hostile / MARK).exists()


def test_a_worker_leaves_it(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = hostile / "key.pem"
    key.touch()
    seen = []

    async def run_worker(_address: str, settings: object) -> None:
        seen.append((Path.cwd(), settings.cluster_key_file))  # type: ignore[attr-defined]
        raise asyncio.CancelledError

    monkeypatch.setattr(cluster, "run_worker", run_worker)
    monkeypatch.setenv("SEARCHANYTHING_SERVICE__CLUSTER_KEY_FILE", "key.pem")
    with mock.patch.dict(os.environ):
        watch.worker("tcp://127.0.0.1:1")
    assert seen == [(Path("/"), key)]


def test_children_find_relative_paths(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(_env_file=None)
    settings.ingest.features_dir, settings.storage.ca_file = Path("features"), Path("~/authority.pem")
    monkeypatch.setenv("SEARCHANYTHING_ENV_FILE", "asked.env")
    given = child_settings(settings)
    assert given["SEARCHANYTHING_INGEST__FEATURES_DIR"] == str(hostile / "features")
    assert given["SEARCHANYTHING_STORAGE__CA_FILE"] == str(Path.home() / "authority.pem")
    assert given["SEARCHANYTHING_ENV_FILE"] == str(hostile / "asked.env")
    assert absolute_source("photos") == str(hostile / "photos")
    assert absolute_source("s3://images/a") == "s3://images/a"


@pytest.mark.usefixtures("hostile")
def test_it_sets_no_environment_of_a_program_without_a_file() -> None:
    """Notebooks and `python -c`: there pymilvus reads `.env`, and what it sets would be trusted most."""
    program = "import os, searchanything.stores.milvus_library; print(os.environ.get('SEARCHANYTHING_MILVUS__URI'))"
    told = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "None"
