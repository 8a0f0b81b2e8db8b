"""What only asks the index imports no more than that takes: a client's parts come when a method needs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.indexing import EMPTY, RED

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import LibraryError
from searchanything.core.settings import MilvusSettings
from searchanything.stores.lite_host import LiteHost
from searchanything.stores.milvus_opening import open_milvus

# Of what segments, embeds, draws and explains nothing is needed to count rows.
MODELLING = {"answers", "backup", "drawing", "encode", "explain", "features", "hash_training", "models", "prompts"}
STATUS_MODULES = 79  # of ours; there were 195
ASK_MILVUS = "import searchanything.client.opening, searchanything.stores.milvus, searchanything.stores.lite_connection"


def imported(code: str, *arguments: str) -> list[str]:
    """The modules in a process that has run a program; what that prints itself goes before the last line."""
    program = f"{code}\nimport sys\nprint()\nprint(*sys.modules)"
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()[-1].split()


def packages(modules: list[str]) -> set[str]:
    """The packages of ours among them."""
    return {one.split(".")[1] for one in modules if one.startswith("searchanything.")}


@pytest.mark.parametrize("verb", [("status",), ("failed", "list"), ("export", "regions.json")])
def test_verbs_that_ask_the_index_import_nothing_else(verb: tuple[str, ...], tmp_path: Path) -> None:
    code = f"import os, sys; os.chdir({str(tmp_path)!r})\nfrom searchanything.cli.app import run; run(sys.argv[1:])"
    modules = imported(code, *verb, "--uri", "memory://light")
    assert "searchanything.client.client" in modules
    assert "searchanything.stores.memory" in modules
    assert packages(modules).isdisjoint(MODELLING)
    assert "PIL" not in modules


@pytest.mark.parametrize("verb", [("index",), ("index", "--prune"), ("sync", "check"), ("sync", "repair")])
def test_a_source_without_changes_takes_no_models(verb: tuple[str, ...], tmp_path: Path) -> None:
    """Nor torch: an hourly run that finds nothing to do ends in a second."""
    source, uri = tmp_path / "images", str(tmp_path / "index.db")
    source.mkdir()
    for name, data in {"red.png": RED, "empty.png": EMPTY}.items():
        (source / name).write_bytes(data)
    with connect(uri, preset="pico") as client:
        assert client.index(source, hash_file="untrained").indexed == 1
    code = "import sys\nfrom searchanything.cli.app import run; run(sys.argv[1:])"
    modules = imported(code, *verb, str(source), "--uri", uri)
    assert {"searchanything.ingest.pipeline", "searchanything.stores.milvus"} <= set(modules)
    assert {"torch", "open_clip", "ultralytics", "searchanything.models.presets"}.isdisjoint(modules)


def test_status_imports_so_few_modules() -> None:
    code = "import sys\nfrom searchanything.cli.app import run; run(sys.argv[1:])"
    modules = imported(code, "status", "--uri", "memory://light")
    assert len([one for one in modules if one.startswith("searchanything")]) <= STATUS_MODULES


def test_asking_milvus_takes_nothing_that_draws_or_embeds() -> None:
    modules = imported(ASK_MILVUS)
    assert packages(modules).isdisjoint(MODELLING)
    assert {"PIL", "pandas", "requests"}.isdisjoint(modules)


AWAITED = {"asyncio", "grpc.aio", "pymilvus.client.async_grpc_handler", "pymilvus.milvus_client.async_milvus_client"}
ONLY_ASK = f"from searchanything.core.put_off import answer_questions_only\nanswer_questions_only()\n{ASK_MILVUS}"


def test_a_process_that_only_asks_takes_nothing_that_is_awaited() -> None:
    modules = imported(ONLY_ASK)
    assert {"pymilvus", "pydantic_settings", "grpc"} < set(modules)
    assert AWAITED.isdisjoint(modules)
    assert "dateutil" not in modules


def test_other_processes_have_it() -> None:
    """Who embeds the client may import pymilvus, too, and finds what it always is."""
    modules = imported(ASK_MILVUS)
    assert set(modules) >= AWAITED
    assert "dateutil" not in modules, "of which nobody makes classes"


def test_what_was_left_out_is_there_when_it_is_used() -> None:
    code = f"""{ONLY_ASK}
import asyncio, grpc, pymilvus
import pymilvus.client.utils
from pymilvus.milvus_client.async_milvus_client import AsyncMilvusClient
print(asyncio.run(asyncio.sleep(0, "slept")))
print(grpc.aio.insecure_channel.__module__, issubclass(grpc.aio.AioRpcError, grpc.RpcError))
print(type(AsyncMilvusClient) is type, AsyncMilvusClient.query.__qualname__)
print(pymilvus.client.utils.isoparse("2026-11-27").year)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["slept", "grpc.aio._channel True", "True AsyncMilvusClient.query", "2026"]


@pytest.mark.parametrize(("only", "users", "seen"), [(True, None, "1"), (False, None, "None"), (True, "3", "3")])
def test_numpy_has_one_thread_where_nothing_is_computed(only: bool, users: str | None, seen: str) -> None:
    code = f"""
import os, sys
class Noting:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_NUM_THREADS"))
sys.meta_path.insert(0, Noting())
from searchanything.cli.session import open_client
from searchanything.core.put_off import answer_questions_only
if {only}:
    answer_questions_only()
open_client("memory://blas", None).close()
print(os.environ.get("OPENBLAS_NUM_THREADS"))
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {} if users is None else {"OPENBLAS_NUM_THREADS": users}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert done.stdout.splitlines() == [seen, str(users)], "and its child processes as many as ever"


def test_a_files_server_starts_before_pymilvus_is_imported(tmp_path: Path) -> None:
    """They take as long as each other, on two cores."""
    file = tmp_path / "index.db"
    file.touch()
    code = """
import sys
from searchanything.core.settings import MilvusSettings
from searchanything.stores import lite_host, milvus_opening
lite_host.LiteHost.start_early = lambda host: print(host.file.name, "pymilvus" in sys.modules)
milvus_opening.open_milvus(MilvusSettings(uri=sys.argv[1])).close()
print("pymilvus" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["index.db False", "True"]


def test_a_server_that_started_in_vain_keeps_no_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, released = tmp_path / "index.db", []
    file.touch()
    monkeypatch.setattr(LiteHost, "start_early", lambda _: None)
    monkeypatch.setattr(LiteHost, "release", lambda host: released.append(host.file.name))
    monkeypatch.setitem(sys.modules, "searchanything.stores.milvus_connection", None)
    with pytest.raises(LibraryError):
        open_milvus(MilvusSettings(uri=str(file)))
    assert released == ["index.db"]


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("client.asking", lambda client: client.query("a.jpg")),
        ("client.indexing", lambda client: client.index("images")),
        ("client.syncing", lambda client: client.sync("images")),
        ("client.failures", lambda client: client.failures()),
        ("client.kept_features", lambda client: client.features.status("images")),
        ("client.operations", lambda client: client.operations),
        ("client.combining", lambda client: client.combine(all_of=["a cat"])),
        ("answers.duplicates", lambda client: client.duplicates()),
        ("backup.backup", lambda client: client.backup("backup.tar")),
        ("search.export", lambda client: client.export("regions.json")),
    ],
)
def test_a_part_that_cannot_be_loaded_says_so_when_it_is_used(
    module: str, use: Callable[[Client], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"searchanything.{module}", None)
    with connect("memory://parts") as client:
        assert client.status().exists is False
        with pytest.raises(LibraryError, match=module):
            use(client)


def test_parts_are_made_once_and_a_views_own_are_its_own() -> None:
    with connect("memory://parts") as client:
        view = client.within([("bucket", "seen/")])
        parts, within = client._parts, view._parts
        assert parts.asking is parts.asking
        assert parts.ingestion.syncing is parts.syncing
        assert within.asking.judging is parts.asking.judging, "both know the same sample of the index"
        assert within.asking.connection.places == (("bucket", "seen/"),)
        assert within.failures.connection is within.connection is not parts.connection
        assert parts.connection.places == ()
