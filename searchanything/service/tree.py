"""`searchanything watch` on one machine: a process tree that heals itself and leaves nothing behind.

    watch (this process, small) ─┬─ Prefect server       unless PREFECT_API_URL names one
                                 └─ coordinator (flows) ─── workers, under Dask's nannies, unless a scheduler is named

Each child ends when its standard input closes, so the whole tree ends, however its root dies. A child that dies is
started again, after a pause that grows while it keeps dying; the coordinator begins with a sync, which finds what was
missed.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from fcntl import F_DUPFD_CLOEXEC, fcntl
from pathlib import Path
from typing import Any, Final, Self

import certifi
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from searchanything import wiring
from searchanything.client.opening import connect
from searchanything.core.addresses import split_s3
from searchanything.core.closing import Closing
from searchanything.core.errors import ServiceError, SettingsError, UsageError
from searchanything.core.extras import install_command
from searchanything.core.files import privately
from searchanything.core.omissions import Omissions
from searchanything.core.proxies import loopback_without_proxy
from searchanything.core.settings import ENV_PREFIX, Settings, load_settings
from searchanything.core.settings_files import ENV_FILE
from searchanything.core.state_folders import service_folder
from searchanything.processes import supervised
from searchanything.service.certificates import NAME as CLUSTER_KEY
from searchanything.service.certificates import make_cluster_key
from searchanything.service.children import CHILDREN_FOLDER, Child, ended, started
from searchanything.service.private import PASSWORD_FILE, kept_password, make_private, owned
from searchanything.service.state_room import StateRoom
from searchanything.service.wave_lines import WAVES_FILE, ShownLines

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
_POLL_S: Final = 0.2
_LEAST_DESCRIPTOR: Final = 64  # shells, as that of `supervised`, use low ones themselves


class ServiceTree(Closing):
    """The whole topology for one source; use it as a context manager, then `run`.

    `environment` is added to this process's own, for all children. `on_wave` gets a line for each finished wave, in a
    thread. Raises, on entering: UsageError if another `watch` uses the folder, ServiceError if its disk has no room, or
    a child does not start.
    """

    def __init__(
        self,
        source: str,
        settings: Settings,
        *,
        environment: Mapping[str, str] | None = None,
        on_wave: Callable[[str], None] | None = None,
    ) -> None:
        self._source = absolute_source(source)
        self._on_wave = on_wave
        self._folder = service_folder(settings)
        self._room = StateRoom(self._folder, on_wave)
        self._settings = settings
        given = {**os.environ, **child_settings(settings), **(environment or {})}
        self._environment = loopback_without_proxy(given)
        self._stopping = threading.Event()
        self._children: list[Child] = []
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
    def password(self) -> str | None:
        """What the page asks for; None for a server that is not ours."""
        return self._environment["PREFECT_API_AUTH_STRING"] if self._own_server else None

    @property
    def password_file(self) -> Path:
        """Where that password is kept."""
        return self._folder / PASSWORD_FILE

    @property
    def notes(self) -> dict[str, Any]:
        """What the coordinator says of itself (`pid`, `scheduler`, `webhook`, `metrics`); empty until it is ready."""
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
        return {child.name: child.process.pid for child in self._children if child.process is not None}

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.close)
            make_private(self._folder)
            self._room.check()
            self._open.enter_context(owned(self._folder / "lock"))
            if self._settings.service.scheduler is None and self._settings.service.cluster_key_file is None:
                make_cluster_key(self._folder / CLUSTER_KEY, replace=True)
                self._environment[f"{ENV_PREFIX}SERVICE__CLUSTER_KEY_FILE"] = str(self._folder / CLUSTER_KEY)
            if self._own_server:
                self._start_prefect()
            undo.pop_all()
        return self

    def start_watching(self) -> None:
        """Start the coordinator and wait until it watches. Raises: ServiceError."""
        self._notes_file.unlink(missing_ok=True)
        notes = ("--notes", str(self._notes_file))
        child = self._child("coordinator", self._flows("watch", self._source, *notes, *self._shown_waves()))
        child.start()
        self._wait(lambda: bool(self.notes), child)

    def run(self) -> None:
        """Keep all children alive until `stop` is called."""
        while not self._stopping.wait(_POLL_S):
            self._room.look()
            for child in self._children:
                child.revive()
                child.bound_log()

    def once(self) -> tuple[int, dict[str, Any]]:
        """Bring the index up to date and end: the exit code and the report. Raises: ServiceError."""
        log_file = self._folder / "coordinator.log"
        with open(log_file, "ab", opener=privately) as log:
            command = self._flows("once", self._source, *self._shown_waves())
            process = started(command, self._environment, log=log, stdout=subprocess.PIPE)
        self._open.callback(ended, process)
        answer = process.stdout.read() if process.stdout else b""
        code = process.wait()
        if code not in (0, 3):
            page = f", and {self.lasting_ui_url}" if self.lasting_ui_url else ""
            raise ServiceError(f"the run ended with code {code}; see {log_file}{page}")
        document: dict[str, Any] = json.loads(answer)
        return code, document

    def stop(self) -> None:
        """Make `run` return; from any thread or a signal handler."""
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

    def _shown_waves(self) -> list[str]:
        """From now on the lines of the waves are shown; the option that has the coordinator write them."""
        file = self._folder / WAVES_FILE
        file.unlink(missing_ok=True)
        if self._on_wave is not None:
            self._open.enter_context(ShownLines(file, self._on_wave))  # closed after the children, which write to it
        return ["--waves", str(file)]

    def _flows(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", FLOWS_PACKAGE, *arguments]

    def _child(self, name: str, command: Sequence[str]) -> Child:
        child = Child(name, command, self._environment, self._folder / f"{name}.log")
        self._children.append(child)
        return child

    def _start_prefect(self) -> None:
        listener = self._open.enter_context(listening_on(self._settings.service.prefect_port))
        port = listener.getsockname()[1]
        self.api_url = f"http://{_HOST}:{port}/api"
        self._environment |= {"PREFECT_API_URL": self.api_url, "PREFECT_HOME": str(self._folder / "prefect")}
        self._environment.setdefault("PREFECT_API_SSL_CERT_FILE", str(self._one_authority()))
        self._environment |= self._login(port)
        serve = self._flows("serve", "--listener", str(listener.fileno()))
        child = self._child("prefect", supervised(serve, grace_s=_PREFECT_GRACE_S))
        child.kept = (listener.fileno(),)
        child.start()
        self._wait(lambda: _healthy(f"{self.api_url}/health"), child)

    def _login(self, port: int) -> dict[str, str]:
        """A password for Prefect's API, which is kept, and pages of other servers kept away from it.

        The server hands out no CSRF tokens, so that clients need not ask it for one with each new connection.
        """
        own = self._environment.get("PREFECT_SERVER_API_AUTH_STRING") or kept_password(self.password_file)
        origins = ",".join(f"http://{host}:{port}" for host in (_HOST, "localhost"))
        return {
            "PREFECT_SERVER_API_AUTH_STRING": own,
            "PREFECT_API_AUTH_STRING": own,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
            "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "false",
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
        }

    def _one_authority(self) -> Path:
        """A file of one certificate authority: each client of Prefect reads all, 30 ms, even for plain HTTP."""
        mark = "-----END CERTIFICATE-----\n"
        file = self._folder / "authority.pem"
        with open(file, "w", encoding="utf-8", opener=privately) as out:
            out.write(Path(certifi.where()).read_text("utf-8").partition(mark)[0] + mark)
        return file

    def _wait(self, ready: Callable[[], bool], child: Child) -> None:
        deadline = time.monotonic() + _READY_S
        while not ready():
            code = None if child.process is None else child.process.poll()
            if code is not None:
                self._room.check()
                raise ServiceError(f"the {child.name} ended at once with code {code}; see {child.log}")
            if time.monotonic() > deadline:
                raise ServiceError(f"the {child.name} was not ready within {_READY_S:.0f} s; see {child.log}")
            if self._stopping.wait(_POLL_S / 2):
                raise ServiceError(f"stopped while the {child.name} was starting")


def check_installed() -> None:
    """Raises: SettingsError if the libraries of the service are not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("prefect", "distributed", "fastapi")):
        raise SettingsError(f"the service is not installed; run: {install_command('service')}")


def check_watchable(source: str, settings: Settings) -> None:
    """Look before anything is started, as `index` does before it begins.

    Raises: SettingsError, UsageError, PresetError, WeightsMissingError, StoreError, RegionIndexError.
    """
    check_installed()
    store, prefix = wiring.open_source(source, settings)
    next(store.list(prefix, Omissions()), None)
    if settings.milvus.uri.startswith("memory://"):
        raise UsageError("an index in memory lies in one process; watch needs a file, or a Milvus server")
    with connect(settings=settings) as client:
        client.operations.check_usable(with_models=settings.service.scheduler is None)


def deploy_flows(source: str, *, sync_every_s: float | None) -> dict[str, Any]:
    """Register the deployments on the server that PREFECT_API_URL names. Raises: SettingsError, ServiceError."""
    check_installed()
    if not os.environ.get("PREFECT_API_URL"):
        raise SettingsError("no Prefect server is named; set PREFECT_API_URL, e.g. http://localhost:4200/api")
    schedule = [] if sync_every_s is None else ["--sync-every", str(sync_every_s)]
    command = [sys.executable, "-m", FLOWS_PACKAGE, "deploy", absolute_source(source), *schedule]
    done = subprocess.run(
        command,
        env=loopback_without_proxy(os.environ | child_settings(load_settings())),
        stdin=subprocess.DEVNULL,
        cwd=CHILDREN_FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [""]
        raise ServiceError(f"{os.environ['PREFECT_API_URL']}: the flows could not be deployed: {lines[-1][:500]}")
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def absolute_source(source: str) -> str:
    """A source as it is named from any folder. Raises: UsageError."""
    return source if split_s3(source) is not None else wiring.place_of(source)[0]


def child_settings(settings: Settings) -> dict[str, str]:
    """What children must see as this process does, paths from any folder, and how Prefect is to behave."""
    files = {
        f"{group}__{name}".upper(): Path(value).expanduser().absolute()
        for group, table in settings
        for name, value in table
        if isinstance(value, Path)
    }
    asked = os.environ.get(ENV_FILE)
    places = {ENV_FILE: str(Path(asked).expanduser().absolute())} if asked else {}
    uri = settings.milvus.uri
    absolute = uri if "://" in uri else str(Path(uri).expanduser().resolve())
    wanted: dict[str, object | None] = {
        "MILVUS__URI": absolute,
        "MODELS__PRESET": settings.models.preset,
        "SERVICE__WORKERS": settings.service.workers,
        "SERVICE__SCHEDULER": settings.service.scheduler,
        **files,
    }
    ours = {f"{ENV_PREFIX}{name}": str(value) for name, value in wanted.items() if value is not None}
    return places | ours | {name: os.environ.get(name, value) for name, value in PREFECT_SETTINGS.items()}


def listening_on(wanted: int) -> socket.socket:
    """A socket that listens on this port of loopback, or on any other if it is taken.

    Whoever holds it has the port: no other server gets it, and the password with it, before ours has started, nor while
    it starts again. Raises: ServiceError.
    """
    for port in (wanted, 0):
        with suppress(OSError), socket.create_server((_HOST, port)) as one:
            return socket.socket(fileno=fcntl(one, F_DUPFD_CLOEXEC, _LEAST_DESCRIPTOR))
    raise ServiceError(f"no free port on {_HOST}")


def _healthy(url: str) -> bool:
    try:
        return bool(PoolManager(retries=False, timeout=2.0).request("GET", url).status == 200)
    except HTTPError:
        return False
