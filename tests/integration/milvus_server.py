"""A real Milvus 2.3.5 server (PyPI `milvus`) for the tests: one per session, on ports of its own.

The server needs packages that contradict ours, so it lives in a virtual environment of its own:
`uv venv --python 3.11 .venv-milvus && uv pip install --python .venv-milvus/bin/python milvus==2.3.5 'setuptools<81'`.
`SEARCHANYTHING_TEST_MILVUS_PYTHON` names another interpreter.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from searchanything.processes import attempts

logger = logging.getLogger(__name__)

ROOT = "root:Milvus"
_PYTHON_VARIABLE = "SEARCHANYTHING_TEST_MILVUS_PYTHON"
_REPOSITORY = Path(__file__).parents[2]
_READY_TIMEOUT_S = 150.0
_REASON = r"panic|SIG[A-Z]+:|in use|terminate|fatal|FATAL|will exit"
_PORTS = ("proxy", "root_coord", "query_coord", "query_node", "index_coord", "index_node", "data_coord", "data_node")

# Runs in the server's environment: unpacks the binaries once, writes the configuration, then becomes the server.
_LAUNCHER = """
import os, sys, fcntl
from pathlib import Path
import milvus
data, extra = Path(sys.argv[1]), dict(pair.split("=") for pair in sys.argv[2:])
unpacked = Path(sys.prefix) / "milvus-binaries"
unpacked.mkdir(exist_ok=True)
with open(unpacked / "guard", "w") as guard:
    fcntl.flock(guard, fcntl.LOCK_EX)
    milvus._initialize_data_files(str(unpacked))
config = milvus.MilvusServerConfig(data_dir=str(data))
config.resolve_storage()
channels = int(extra.pop("channels"))
if extra.pop("users", None):
    config.set("common.security.authorizationEnabled", True)
for name, port in extra.items():
    config.set(name, int(port))
config.set("proxy_internal_port", int(extra["internal_port"]))
config.set("system_log_path", "")
config.set("etcd_log_path", str(data / "etcd.log"))
config.set("common.session.ttl", 10)  # the next one waits so long for the sessions of one that was killed
config.set("log.level", "warn")
# Reads wait for the next tick, loading waits for several looks.
config.set("proxy.timeTickInterval", 100)
config.set("rootCoord.dmlChannelNum", channels)
config.set("queryCoord.distPullInterval", 100)
config.write_config()
yaml = data / "configs" / "milvus.yaml"
text = yaml.read_text()
for part, lines in {
    "etcd": "  config:\\n    path: " + str(data / "etcd.yaml"),
    "queryCoord": "  checkChannelInterval: 100\\n  checkSegmentInterval: 100",
}.items():  # what the template leaves out
    text = text.replace("\\n" + part + ":\\n", "\\n" + part + ":\\n" + lines + "\\n", 1)
yaml.write_text(text)
client, peer = extra["etcd_port"], extra["etcd_peer_port"]
(data / "etcd.yaml").write_text(
    f"name: default\\ndata-dir: {data / 'data' / 'etcd.data'}\\n"
    f"listen-client-urls: http://127.0.0.1:{client}\\nadvertise-client-urls: http://127.0.0.1:{client}\\n"
    f"listen-peer-urls: http://127.0.0.1:{peer}\\ninitial-advertise-peer-urls: http://127.0.0.1:{peer}\\n"
    f"initial-cluster: default=http://127.0.0.1:{peer}\\n"
)
os.chdir(data)
binary = unpacked / "bin" / "milvus"
environment = dict(os.environ, DEPLOY_MODE="STANDALONE", METRICS_PORT=extra["metrics_port"],
                   MILVUS_RUN_DIR=str(data / "run"), LD_LIBRARY_PATH=str(binary.parent))
os.execve(binary, [str(binary), "run", "standalone"], environment)
"""


class ServerEndedError(RuntimeError):
    """The server ended before it could be used."""


class MilvusServerMissingError(RuntimeError):
    """The environment of the test server has not been made."""


def milvus_python() -> Path:
    """The interpreter that has PyPI's `milvus`. Raises: MilvusServerMissingError saying how to make it."""
    python = Path(os.environ.get(_PYTHON_VARIABLE) or _REPOSITORY / ".venv-milvus" / "bin" / "python")
    if not python.is_file():
        raise MilvusServerMissingError(
            f"no test server: {python} is missing. Make it with `uv venv --python 3.11 .venv-milvus` and "
            f"`uv pip install --python .venv-milvus/bin/python milvus==2.3.5 'setuptools<81'`, "
            f"or let {_PYTHON_VARIABLE} name another interpreter"
        )
    return python


class MilvusServer:
    """One server process and its data folder; `kill` and `start` again keep the data, `stop` only with `keep`.

    With `users` it asks who comes: at first there is `ROOT` alone. One that is to be killed needs more `channels` than
    collections, else it loses rows (docs/failures.md). Few are quick: each has ticks of its own.
    """

    def __init__(self, folder: Path, *, keep: bool = False, users: bool = False, channels: int = 4) -> None:
        self._folder = folder
        self._keep = keep
        self._users = users
        self._channels = channels
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._ports['proxy_port']}"

    @property
    def folder(self) -> Path:
        return self._folder

    def start(self, *, same_address: bool = False) -> None:
        """Start and wait until collections can be made: a healthy answer of `/healthz` comes too early for that.

        `same_address`: on the ports of the last start, so that its clients find it again. A server that ends as it
        starts is started once more: a port was taken since it was found free, or, on a machine that is busy with other
        work, it has crashed.
        """
        is_again = same_address and bool(self._ports)
        try:
            self._start(other_ports=not is_again)
        except ServerEndedError as error:
            logger.warning("started once more: %s", error)
            self._start(other_ports=not is_again)

    def _start(self, *, other_ports: bool) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        names = [f"{name}_port" for name in _PORTS] + ["internal_port", "etcd_port", "etcd_peer_port", "metrics_port"]
        if other_ports:
            self._ports = dict(zip(names, _free_ports(len(names)), strict=True))
        arguments = [f"{name}={port}" for name, port in self._ports.items()] + ["users=1"] * self._users
        arguments.append(f"channels={self._channels}")
        log_path = self._folder / "server.log"
        with log_path.open("wb" if other_ports else "ab") as log:
            self._process = subprocess.Popen(
                [str(milvus_python()), "-c", _LAUNCHER, str(self._folder), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            self._wait_until_usable(self._process, log_path)
        except BaseException:
            (self.stop if other_ports else self.kill)()  # with the last ports go the data of before
            raise

    def stop(self) -> None:
        """End the server by its pid and remove its data."""
        self.kill(signal.SIGKILL)  # its orderly end takes seconds and saves nothing that a test wants
        if not self._keep:
            shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal and wait for the end; the data stay."""
        process, self._process = self._process, None  # first: another thread may start the next one meanwhile
        if process is not None:
            process.send_signal(number)
            process.wait()

    def _wait_until_usable(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        last = "no attempt"
        for _ in attempts(process, within_s=_READY_TIMEOUT_S, pause_s=0.5):
            try:
                _try_collection(self.uri, ROOT if self._users else "")
            except Exception as error:  # noqa: BLE001 - anything may fail until the server is up
                last = repr(error)
            else:
                return
        if process.poll() is not None:
            log = log_path.read_text(errors="replace")
            reasons = [line for line in log.splitlines() if re.search(_REASON, line) and "[INFO]" not in line][-5:]
            raise ServerEndedError(f"the Milvus server ended at once: {reasons}\n{log[-2000:]}")
        raise RuntimeError(f"the Milvus server was not usable within {_READY_TIMEOUT_S} s: {last}")


def _try_collection(uri: str, token: str) -> None:
    from pymilvus import DataType, MilvusClient

    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    client = MilvusClient(uri, token=token, timeout=2.0, dedicated=True)
    try:
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("code", DataType.BINARY_VECTOR, dim=8)
        indexes = client.prepare_index_params()
        indexes.add_index("code", index_type="BIN_FLAT", metric_type="HAMMING")
        client.create_collection("readiness", schema=schema, index_params=indexes, timeout=20.0)
        client.load_collection("readiness", timeout=20.0)
        client.query("readiness", filter="id > 0", limit=1, timeout=20.0)
        client.drop_collection("readiness", timeout=20.0)
    finally:
        client.close()


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
