"""Build docker-compose.yml's image, start everything, try it, remove it all: `make verify-compose`.

It needs a docker engine. It runs under a project name, with secrets and on volumes of its own, but on the same ports:
end your own stack first.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import minio
from PIL import Image
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from deploy.agreement import compare, read_bucket, read_index
from deploy.environment import complete
from searchanything.client.remote import RemoteClient
from searchanything.core.errors import AccessError
from searchanything.core.types import ImageRef

_PROJECT = "searchanything-verify"
_S3, _MILVUS = "127.0.0.1:8333", "http://127.0.0.1:19530"
_SERVE = "http://127.0.0.1:8600"
_SEEN_S = 120.0


class Trial:
    """The stack under a name of its own, with the values of its `.env`."""

    def __init__(self, env_file: Path) -> None:
        self._command = ["docker", "compose", "--project-name", _PROJECT, "--env-file", str(env_file)]
        lines = [line for line in env_file.read_text().splitlines() if "=" in line]
        self.values: Mapping[str, str] = dict(line.split("=", 1) for line in lines)
        self.bucket = self.values["BUCKET"]

    def compose(self, *arguments: str, check: bool = True) -> None:
        """Run `docker compose`. Raises: subprocess.CalledProcessError."""
        _say("docker compose " + " ".join(arguments))
        subprocess.run([*self._command, *arguments], check=check, env=_plain_environment())

    def client(self) -> minio.Minio:
        """A client of its S3 server."""
        access, secret = (self.values[f"SEARCHANYTHING_STORAGE__{name}_KEY"] for name in ("ACCESS", "SECRET"))
        return minio.Minio(_S3, access, secret, secure=False)

    def differences(self) -> list[object]:
        """What differs between bucket and index."""
        held = read_index(_MILVUS, self.bucket, token=self.values["SEARCHANYTHING_MILVUS__TOKEN"])
        return list(compare(read_bucket(self.client(), self.bucket), held))

    def sizes(self) -> set[int]:
        """The widths of the indexed images."""
        held = read_index(_MILVUS, self.bucket, token=self.values["SEARCHANYTHING_MILVUS__TOKEN"])
        return {row["image_width"] for row in held.images}

    def holds(self, widths: set[int]) -> bool:
        """True where images of these widths are indexed, and bucket and index agree."""
        return self.sizes() == widths and not self.differences()


def try_it(trial: Trial) -> None:
    """Upload, overwrite, ask, kill a worker, delete; no password. Raises: AssertionError, by what did not happen."""
    client = trial.client()
    for width in (300, 200):
        data = _image(width)
        client.put_object(trial.bucket, "a.png", io.BytesIO(data), len(data), content_type="image/png")
        _until(partial(trial.holds, {width}), f"the image {width} px wide")
    try_serve(trial)
    trial.compose("kill", "--signal", "SIGKILL", "worker")
    trial.compose("up", "--detach", "--wait", "worker")
    data = _image(250)
    client.put_object(trial.bucket, "b.png", io.BytesIO(data), len(data), content_type="image/png")
    _until(partial(trial.holds, {200, 250}), "an image after the death of the worker")
    client.remove_object(trial.bucket, "a.png")
    client.remove_object(trial.bucket, "b.png")
    _until(lambda: trial.sizes() == set() and not trial.differences(), "an empty index")
    for token in ("", "root:Milvus"):
        try:
            MilvusClient(_MILVUS, token=token, timeout=10.0).list_collections()
        except MilvusException:
            _say(f"Milvus refuses {token or 'who has no password'}")
        else:
            raise AssertionError(f"Milvus lets {token or 'everyone'} in")


def try_serve(trial: Trial) -> None:
    """Ask the server for an indexed image: nobody may without the key of `.env`. Raises: AssertionError."""
    image = ImageRef(trial.bucket, "a.png")
    try:
        RemoteClient(_SERVE).query(image, limit=1)
    except AccessError:
        _say("serve refuses who has no key")
    else:
        raise AssertionError("serve lets everyone in")
    hits = RemoteClient(_SERVE, key=trial.values["SERVE_KEY"]).query(image, limit=1)
    if [hit.image for hit in hits] != [image]:
        raise AssertionError(f"expected {image} as the answer of serve to itself, got {hits!r}")
    _say("serve answers with its key")


def _until(condition: Callable[[], bool], what: str) -> None:
    start = time.monotonic()
    while not condition():
        if time.monotonic() > start + _SEEN_S:
            raise AssertionError(f"not within {_SEEN_S:.0f} s: {what}")
        time.sleep(0.5)
    _say(f"{what}: {time.monotonic() - start:.1f} s")


def _image(width: int) -> bytes:
    """A red square on grey, as PNG."""
    image = Image.new("RGB", (width, 200), (90, 90, 90))
    image.paste((220, 30, 30), (40, 40, 140, 140))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _plain_environment() -> dict[str, str]:
    """Ours without what would outvote the trial's `.env`."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SEARCHANYTHING_", "COMPOSE_", "PREFECT_"))
    }


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """0 if everything was as it should be."""
    if shutil.which("docker") is None:
        _say("there is no docker here; `make compose` checks the file without one")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        env_file = Path(folder) / ".env"
        complete(env_file)
        trial = Trial(env_file)
        try:
            trial.compose("up", "--detach", "--build", "--wait", "--wait-timeout", "600")
            try_it(trial)
        except (subprocess.CalledProcessError, AssertionError) as error:
            _say(json.dumps({"verified": False, "reason": str(error)}))
            trial.compose("ps", "--all", check=False)
            trial.compose("logs", "--tail", "50", check=False)
            return 1
        finally:
            trial.compose("down", "--volumes", "--timeout", "60", check=False)
    _say(json.dumps({"verified": True}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
