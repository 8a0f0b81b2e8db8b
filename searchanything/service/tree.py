"""`searchanything watch` on one machine: a process tree that heals itself and leaves nothing behind.

    watch (this process, small) ─┬─ Prefect server       unless PREFECT_API_URL names one
                                 └─ coordinator (flows) ─── workers, under Dask's nannies, unless a scheduler is named

Each child ends when its standard input closes, so the tree falls however its root dies. A child that dies is started
again, after a pause that grows while it keeps dying; the coordinator begins with a sync, which finds what was missed.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import certifi
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from searchanything import wiring
from searchanything.client.client import connect
from searchanything.core.errors import PresetError, ServiceError, SettingsError, UsageError
from searchanything.core.settings import ENV_PREFIX, Settings, service_folder
from searchanything.core.types import Omissions
from searchanything.processes import kill_group, supervised

logger = logging.getLogger(__name__)

FLOWS_PACKAGE: Final = "searchanything_flows"
PREFECT_SETTINGS: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "2592000",  # 30 days, in seconds
}
_HOST: Final = "127.0.0.1"
_READY_S: Final = 300.0  # a fresh database takes 13 s of CPU time, on machines that may be busy
_PREFECT_GRACE_S: Final = 10.0
_STOP_S: Final = 30.0  # the coordinator gives its waves 15, and ends by itself after 25
_PAUSES_S: Final = (0.5, 30.0)
_STEADY_S: Final = 60.0  # a child that lived so long may be started again at once
_POLL_S: Final = 0.2
_LOG_BYTES: Final = 10 * 2**20


@dataclass(slots=True)
class _Child:
    """A child, how it is started, and when it may be started again."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause_s: float = _PAUSES_S[0]
    starts: int = 0
    due: float = field(default=0.0)

    def start(self) -> None:
        """Start it; what it says is added to its log."""
        self.bound_log()
        with self.log.open("ab") as log:
            self.process = _started(self.command, self.environment, log=log, stdout=log)
        self.started = time.monotonic()
        self.starts += 1

    def revive(self) -> bool:
        """Start it again if it has died and its pause is over; True if it has died since the last look."""
        if self.process is not None and self.process.poll() is None:
            return False
        now = time.monotonic()
        if self.process is not None:
            code = self.process.poll()
            self.stop()  # what it has left of its group
            self.pause_s = _PAUSES_S[0] if now - self.started > _STEADY_S else self.pause_s
            self.due = now + self.pause_s
            self.pause_s = min(2 * self.pause_s, _PAUSES_S[1])
            logger.warning("%s ended with code %s; it is started again (%s)", self.name, code, self.log)
            return True
        if now >= self.due:
            self.start()
        return False

    def bound_log(self) -> None:
        """Put a long log aside and go on with an empty one; the child has it open, for appending."""
        try:
            if self.log.stat().st_size > _LOG_BYTES:
                shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
                os.truncate(self.log, 0)
        except FileNotFoundError:
            return
        except OSError as error:  # a full disk is no reason to end the service
            logger.warning("%s could not be put aside: %s", self.log, error)

    def stop(self) -> None:
        """End it and all that it started."""
        if self.process is not None:
            _ended(self.process)
            self.process = None


class ServiceTree:
    """The whole topology for one source; use it as a context manager, then `run`.

    `environment` adds to this process' own for all children. Raises, on entering: UsageError if another `watch` uses
    the folder, ServiceError if a child does not come up.
    """

    def __init__(self, source: str, settings: Settings, *, environment: Mapping[str, str] | None = None) -> None:
        self._source = source
        self._folder = service_folder(settings)
        self._settings = settings
        self._environment = {**os.environ, **child_settings(settings), **(environment or {})}
        self._stopping = threading.Event()
        self._children: list[_Child] = []
        self._open = ExitStack()
        self.api_url = self._environment.get("PREFECT_API_URL", "")
        self._own_server = not self.api_url

    @property
    def folder(self) -> Path:
        """Where the service keeps its state and its logs."""
        return self._folder

    @property
    def ui_url(self) -> str:
        """Prefect's web page."""
        return self.api_url.removesuffix("/").removesuffix("/api")

    @property
    def lasting_ui_url(self) -> str | None:
        """Prefect's web page, if it outlives this tree."""
        return None if self._own_server else self.ui_url

    @property
    def notes(self) -> dict[str, Any]:
        """What the coordinator says of itself (`pid`, `scheduler`, `webhook`); empty until it is ready."""
        try:
            found: dict[str, Any] = json.loads(self._notes_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    @property
    def environment(self) -> Mapping[str, str]:
        """What the children see."""
        return dict(self._environment)

    @property
    def pids(self) -> dict[str, int]:
        """The processes of the children that live now, by name; each leads a process group."""
        living = [child for child in self._children if child.process is not None]
        return {child.name: child.process.pid for child in living if child.process is not None}

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.close)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._open.enter_context(_owned(self._folder / "lock"))
            if self._own_server:
                self._start_prefect()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start_watching(self) -> None:
        """Start the coordinator and wait until it watches. Raises: ServiceError."""
        self._notes_file.unlink(missing_ok=True)
        child = self._child("coordinator", self._flows("watch", self._source, "--notes", str(self._notes_file)))
        child.start()
        self._wait(lambda: bool(self.notes), child)

    def run(self) -> None:
        """Keep all children alive until `stop`."""
        while not self._stopping.wait(_POLL_S):
            for child in self._children:
                child.revive()
                child.bound_log()

    def once(self) -> tuple[int, dict[str, Any]]:
        """Bring the index up to date and end: the exit code and the report. Raises: ServiceError."""
        log_file = self._folder / "coordinator.log"
        with log_file.open("ab") as log:
            process = _started(self._flows("once", self._source), self._environment, log=log, stdout=subprocess.PIPE)
        self._open.callback(_ended, process)
        answer = process.stdout.read() if process.stdout else b""
        code = process.wait()
        if code not in (0, 3):
            page = f", and {self.lasting_ui_url}" if self.lasting_ui_url else ""
            raise ServiceError(f"the run ended with code {code}; see {log_file}{page}")
        document: dict[str, Any] = json.loads(answer)
        return code, document

    def stop(self) -> None:
        """Let `run` return; from any thread or a signal handler."""
        self._stopping.set()

    def close(self) -> None:
        """End all children, the coordinator first."""
        for child in reversed(self._children):
            child.stop()
        self._children.clear()
        self._open.close()

    @property
    def _notes_file(self) -> Path:
        return self._folder / "coordinator.json"

    def _flows(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", FLOWS_PACKAGE, *arguments]

    def _child(self, name: str, command: Sequence[str]) -> _Child:
        child = _Child(name, command, self._environment, self._folder / f"{name}.log")
        self._children.append(child)
        return child

    def _start_prefect(self) -> None:
        port = free_port(self._settings.service.prefect_port)
        self.api_url = f"http://{_HOST}:{port}/api"
        self._environment |= {"PREFECT_API_URL": self.api_url, "PREFECT_HOME": str(self._folder / "prefect")}
        self._environment.setdefault("PREFECT_API_SSL_CERT_FILE", str(self._one_authority()))
        serve = [sys.executable, "-m", "prefect", "server", "start", "--host", _HOST, "--port", str(port)]
        child = self._child("prefect", supervised(serve, grace_s=_PREFECT_GRACE_S))
        child.start()
        self._wait(lambda: _healthy(f"{self.api_url}/health"), child)

    def _one_authority(self) -> Path:
        """A file of one certificate authority: each client of Prefect reads all, 30 ms, even for plain HTTP."""
        mark = "-----END CERTIFICATE-----\n"
        file = self._folder / "authority.pem"
        file.write_text(Path(certifi.where()).read_text("utf-8").partition(mark)[0] + mark)
        return file

    def _wait(self, ready: Callable[[], bool], child: _Child) -> None:
        deadline = time.monotonic() + _READY_S
        while not ready():
            code = None if child.process is None else child.process.poll()
            if code is not None:
                raise ServiceError(f"the {child.name} ended at once with code {code}; see {child.log}")
            if time.monotonic() > deadline:
                raise ServiceError(f"the {child.name} was not ready within {_READY_S:.0f} s; see {child.log}")
            if self._stopping.wait(_POLL_S / 2):
                raise ServiceError(f"stopped while the {child.name} was starting")


def _started(
    command: Sequence[str], environment: Mapping[str, str], *, log: IO[bytes], stdout: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    """A process that ends when its standard input does."""
    return subprocess.Popen(
        list(command),
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=log,
        start_new_session=True,  # Ctrl-C reaches us only, and the whole group can be killed
    )


def _ended(process: subprocess.Popen[bytes]) -> None:
    """Close its standard input, wait until it is gone, and kill what is left of its group."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    kill_group(process)


def check_installed() -> None:
    """Raises: SettingsError if the libraries of the service are not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("prefect", "prefect_dask", "fastapi")):
        raise SettingsError("the service is not installed; run: pip install 'searchanything[service]'")


def check_watchable(source: str, settings: Settings) -> None:
    """Look before anything is started. Raises: SettingsError, UsageError, PresetError, StoreError, RegionIndexError."""
    check_installed()
    store, prefix = wiring.open_source(source, settings)
    next(store.list(prefix, Omissions()), None)
    if settings.milvus.uri.startswith("memory://"):
        raise UsageError("an index in memory lies in one process; watch needs a file, or a Milvus server")
    with connect(settings=settings) as client:
        if client.status().manifest is None and settings.models.preset is None:
            raise PresetError(wiring.CHOOSE_PRESET)


def deploy_flows(source: str, *, sync_every_s: float | None) -> dict[str, Any]:
    """Register the deployments on the server that PREFECT_API_URL names. Raises: SettingsError, ServiceError."""
    check_installed()
    if not os.environ.get("PREFECT_API_URL"):
        raise SettingsError("no Prefect server is named; set PREFECT_API_URL, e.g. http://localhost:4200/api")
    schedule = [] if sync_every_s is None else ["--sync-every", str(sync_every_s)]
    command = [sys.executable, "-m", FLOWS_PACKAGE, "deploy", source, *schedule]
    done = subprocess.run(
        command,
        env=os.environ | PREFECT_SETTINGS,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [""]
        raise ServiceError(f"{os.environ['PREFECT_API_URL']}: the flows could not be deployed: {lines[-1][:500]}")
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def child_settings(settings: Settings) -> dict[str, str]:
    """What children must see as this process does, and how Prefect is to behave."""
    uri = settings.milvus.uri
    absolute = uri if "://" in uri else str(Path(uri).expanduser().resolve())
    wanted: dict[str, object | None] = {
        "MILVUS__URI": absolute,
        "MODELS__PRESET": settings.models.preset,
        "SERVICE__WORKERS": settings.service.workers,
        "SERVICE__SCHEDULER": settings.service.scheduler,
    }
    ours = {f"{ENV_PREFIX}{name}": str(value) for name, value in wanted.items() if value is not None}
    return ours | {name: os.environ.get(name, value) for name, value in PREFECT_SETTINGS.items()}


def free_port(wanted: int) -> int:
    """This port of loopback, or any other if it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServiceError(f"no free port on {_HOST}")


def _healthy(url: str) -> bool:
    try:
        return bool(PoolManager(retries=False, timeout=2.0).request("GET", url).status == 200)
    except HTTPError:
        return False


def _owned(path: Path) -> ExitStack:
    """The lock of a service folder, held until the stack is closed; it ends with this process."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another `searchanything watch` uses {path.parent}; end it, or set {ENV_PREFIX}SERVICE__FOLDER"
            ) from None
        return stack.pop_all()
