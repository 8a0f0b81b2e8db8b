"""The topology of docker-compose.yml from PyPI's real servers, on loopback: `make up-local`.

    SeaweedFS · Milvus · Prefect's server · Dask's scheduler · workers · watcher

The programs are started with the same commands as there. What dies is started again; Ctrl-C ends everything.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import signal
import socket
import sys
import sysconfig
import threading
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from deploy.processes import NotReadyError, Program
from searchanything import wiring
from searchanything.demo.local_s3 import LocalS3
from searchanything.service.certificates import NAME as CLUSTER_KEY
from searchanything.service.certificates import make_cluster_key
from searchanything.service.tree import listening_on

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_READY_S = 300.0
_FIRST = ("prefect", "scheduler")  # the others need them
_PROBE_S = 5.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy
_BIN = Path(sysconfig.get_path("scripts"))


class MilvusPart(Protocol):
    """A Milvus server, or what stands for the embedded index."""

    @property
    def uri(self) -> str: ...

    def start(self, *, same_address: bool = False) -> None: ...

    def kill(self) -> None: ...

    def stop(self) -> None: ...


class EmbeddedIndex:
    """A Milvus Lite file: its server comes with the first user and goes after the last, so there is little to do."""

    def __init__(self, file: Path) -> None:
        self.uri = str(file)

    def start(self, *, same_address: bool = False) -> None:
        """Nothing: the first user starts the server."""

    def kill(self) -> None:
        """Nothing: it is not ours."""

    def stop(self) -> None:
        """Nothing: it ends when nobody uses it."""


class Stack:
    """All parts of the service over one folder. Use it as a context manager, or call `start` and `stop`.

    `more` are further settings of ours, by their variables.
    """

    def __init__(
        self,
        folder: Path,
        milvus: MilvusPart,
        *,
        bucket: str = "images",
        workers: int = 1,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.milvus = milvus
        self.bucket = bucket
        self.s3 = LocalS3(self.folder / "s3")
        self.ports: dict[str, int] = {}  # from the start on
        self._held = ExitStack()
        self._listener: socket.socket | None = None  # of Prefect's server, as `searchanything watch` holds it
        self.programs: dict[str, Program] = {}
        self._workers = workers
        self._more = dict(more or {})
        self._token = secrets.token_hex(16)
        self._cluster_key = self.folder / CLUSTER_KEY
        self.password = f"searchanything:{secrets.token_hex(16)}"
        """Of Prefect's page and API."""

    @property
    def environment(self) -> dict[str, str]:
        """What every program of ours is told; secrets included."""
        storage = self.s3.settings()
        if storage.access_key is None or storage.secret_key is None:
            raise NotReadyError("the local S3 server has no keys")
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}
        return kept | {
            "HOME": str(self.folder),
            "SEARCHANYTHING_STORAGE__ENDPOINT": self.s3.endpoint,
            "SEARCHANYTHING_STORAGE__SECURE": "false",
            "SEARCHANYTHING_STORAGE__ACCESS_KEY": storage.access_key.get_secret_value(),
            "SEARCHANYTHING_STORAGE__SECRET_KEY": storage.secret_key.get_secret_value(),
            "SEARCHANYTHING_MILVUS__URI": self.milvus.uri,
            "SEARCHANYTHING_MODELS__PRESET": os.environ.get("SEARCHANYTHING_MODELS__PRESET", "pico"),
            "SEARCHANYTHING_SERVICE__SCHEDULER": f"tls://{_HOST}:{self.ports['scheduler']}",
            "SEARCHANYTHING_SERVICE__CLUSTER_KEY_FILE": str(self._cluster_key),
            "SEARCHANYTHING_SERVICE__FOLDER": str(self.folder / "watcher"),
            "SEARCHANYTHING_SERVICE__WEBHOOK_HOST": _HOST,
            "SEARCHANYTHING_SERVICE__WEBHOOK_PORT": str(self.ports["webhook"]),
            "SEARCHANYTHING_SERVICE__WEBHOOK_TOKEN": self._token,
            "PREFECT_API_URL": f"http://{_HOST}:{self.ports['prefect']}/api",
            "PREFECT_API_AUTH_STRING": self.password,
            "PREFECT_SERVER_API_AUTH_STRING": self.password,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "DO_NOT_TRACK": "1",
            **self._more,
        }

    def start(self) -> None:
        """Start everything and wait until it serves. Raises: NotReadyError, StoreUnavailableError, SettingsError."""
        for name in ("scheduler", "dashboard", "webhook"):
            self.ports[name] = self._held.enter_context(holding_a_port()).getsockname()[1]
        self._write_notification()
        make_cluster_key(self._cluster_key, replace=False)
        self.s3.start()
        self.milvus.start()
        wiring.open_s3_bucket(self.bucket, self.s3.settings()).make_bucket()
        self._listener = listening_on(0)
        self.ports["prefect"] = self._listener.getsockname()[1]
        self.programs = self._programs(self._listener)
        first = [self.programs[name] for name in _FIRST if name in self.programs]
        for wave in (first, [program for program in self.programs.values() if program not in first]):
            for program in wave:
                program.start()
            for program in wave:
                program.wait(_READY_S)

    def restart_ended(self) -> list[str]:
        """Restart the programs that have ended, as Docker's `unless-stopped` would; their names."""
        fallen = [name for name, program in self.programs.items() if not program.alive]
        for name in fallen:
            self.programs[name].kill()
            self.programs[name].start()
        return fallen

    def stop(self) -> None:
        """Stop everything, users before what they use. Does nothing if nothing runs."""
        last = [self.programs[name] for name in _FIRST if name in self.programs]
        for wave in ([program for program in self.programs.values() if program not in last], last):
            threads = [threading.Thread(target=program.stop) for program in wave]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.milvus.stop()
        self.s3.stop()
        self._held.close()
        if self._listener is not None:
            self._listener.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _programs(self, listener: socket.socket) -> dict[str, Program]:
        address, dashboard = f"tls://{_HOST}:{self.ports['scheduler']}", self.ports["dashboard"]
        listen = ["--host", _HOST, "--port", str(self.ports["scheduler"]), "--protocol", "tls"]
        key = str(self._cluster_key)
        listen += ["--tls-ca-file", key, "--tls-cert", key, "--tls-key", key]
        serve = ["python", "-m", "searchanything_flows", "serve", "--listener", str(listener.fileno())]
        prefect = self._program("prefect", serve, f"http://{_HOST}:{self.ports['prefect']}/api/health")
        prefect.kept = (listener.fileno(),)
        programs = [
            prefect,
            self._program(
                "scheduler",
                ["dask", "scheduler", *listen, "--dashboard-address", f"{_HOST}:{dashboard}"],
                f"http://{_HOST}:{dashboard}/health",
            ),
        ]
        for number in range(self._workers):
            worker = self._program(f"worker-{number}", ["searchanything", "worker", "--scheduler", address], "")
            worker.ready = lambda: self._known_workers() >= self._workers
            programs.append(worker)
        watch = ["searchanything", "watch", f"s3://{self.bucket}"]
        programs.append(self._program("watcher", watch, f"http://{_HOST}:{self.ports['webhook']}/health"))
        return {program.name: program for program in programs}

    def _program(self, name: str, command: list[str], health_url: str) -> Program:
        environment = self.environment
        if command[:2] == ["searchanything", "worker"]:  # they know nothing of Prefect
            environment = {key: value for key, value in environment.items() if not key.startswith("PREFECT_")}
        return Program(name, [_BIN / command[0], *command[1:]], environment, self.folder, lambda: _answers(health_url))

    def _known_workers(self) -> int:
        url = f"http://{_HOST}:{self.ports['dashboard']}/json/identity.json"
        with _DIRECT.open(url, timeout=_PROBE_S) as answer:
            return len(json.load(answer)["workers"])

    def _write_notification(self) -> None:
        """SeaweedFS tells the watcher's webhook what changes."""
        folder = self.folder / "s3"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "notification.toml").write_text(
            "[notification.webhook]\nenabled = true\n"
            f'endpoint = "http://{_HOST}:{self.ports["webhook"]}/events"\nbearer_token = "{self._token}"\n'
        )


def _answers(url: str) -> bool:
    with _DIRECT.open(url, timeout=_PROBE_S) as answer:
        return bool(answer.status == 200)


def holding_a_port() -> socket.socket:
    """A socket that has a port of loopback and does not listen, so that no other program is given it.

    A server that is told the port listens beside it, and again after it was killed: servers set SO_REUSEADDR.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((_HOST, 0))
    return holder


def _show(stack: Stack, shown: Mapping[str, str]) -> None:
    lines = [
        f"Prefect  http://{_HOST}:{stack.ports['prefect']}  (password {stack.password})",
        f"bucket   s3://{stack.bucket}",
        "",
        "In another shell:",
    ]
    lines += [f"  export {name}={value}" for name, value in shown.items() if name.startswith("SEARCHANYTHING_ST")]
    lines += [f"  export SEARCHANYTHING_MILVUS__URI={stack.milvus.uri}", "", "Ctrl-C ends everything."]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the stack until it is told to end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("data/up-local"), help="data and logs; kept")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--milvus", choices=["lite", "server"], default="lite", help="server: of .venv-milvus")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given.folder.mkdir(parents=True, exist_ok=True)
    milvus: MilvusPart = EmbeddedIndex(given.folder.resolve() / "index.db")
    if given.milvus == "server":
        from tests.integration.milvus_server import MilvusServer

        milvus = MilvusServer(given.folder.resolve() / "milvus", keep=True)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with Stack(given.folder, milvus, workers=given.workers) as stack:
        _show(stack, stack.environment)
        while not ended.wait(1.0):
            for name in stack.restart_ended():
                logger.info("%s  %s ended and was started again", time.strftime("%H:%M:%S"), name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
