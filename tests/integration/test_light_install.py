"""The wheel in an empty environment, by plain pip: what the light client is, and what it answers for what it lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from fakes.http_servers import Answer, Asked, web_server

ROOT = Path(__file__).parents[2]
MOST_BYTES = 30_000_000
KEPT_VARIABLES = ("PIP_", "SSL_", "TMPDIR", "LANG", "LC_")

pytestmark = pytest.mark.timeout(600)


class Environment:
    """An environment that holds nothing but what was installed into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}

    def call(self, *command: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program there, with none of this process's packages and settings."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT_VARIABLES)}
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **kept}
        words = [str(part) for part in command]
        done = subprocess.run(
            words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        return done

    def python(self, program: str, *arguments: str) -> str:
        """What a Python program prints there."""
        return self.call(self.folder / "env" / "bin" / "python", "-c", program, *arguments).stdout

    def size_bytes(self) -> int:
        """What the installation takes on disk, compiled files included, without pip itself."""
        (packages,) = (self.folder / "env").glob("lib/python3*/site-packages")
        parts = [part for part in packages.iterdir() if part.name.partition("-")[0] not in ("pip", "setuptools")]
        files = [file for part in parts for file in (part.rglob("*") if part.is_dir() else [part])]
        return sum(file.lstat().st_size for file in files if file.is_file())


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel, built from this checkout and installed without extras."""
    environment = Environment(tmp_path_factory.mktemp("light"))
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", ROOT]
    environment.call(*build)
    environment.call(sys.executable, "-m", "venv", "--without-pip", "env")  # pip's own installation is most of it
    (wheel,) = (environment.folder / "dist").iterdir()
    began = time.monotonic()
    environment.call(sys.executable, "-m", "pip", "--python", "env", "install", "-q", wheel)
    environment.seconds["install"] = time.monotonic() - began
    return environment


IMPORT = """
import json, sys, time
before = set(sys.modules)
began = time.perf_counter()
import searchanything
spent = time.perf_counter() - began
searchanything.connect, searchanything.RemoteClient, searchanything.AsyncRemoteClient, searchanything.Filter
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps({"seconds": spent, "foreign": sorted(new - set(sys.stdlib_module_names) - {"searchanything"})}))
"""


def test_it_is_small_and_imports_nothing_foreign(light: Environment) -> None:
    """The time is told, not asserted: machines differ."""
    imported = json.loads(light.python(IMPORT))
    size = light.size_bytes()
    (wheel,) = (light.folder / "dist").iterdir()
    sys.stdout.write(
        f"light: {size / 1e6:.1f} MB installed, wheel {wheel.stat().st_size / 1e6:.1f} MB, "
        f"pip install {light.seconds['install']:.1f} s, import {imported['seconds']:.3f} s\n"
    )
    assert imported["foreign"] == []
    assert size < MOST_BYTES
    program = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"
    assert set(light.python(program).split()) - {"pip", "setuptools"} == {"searchanything"}


def test_the_wheel_is_typed_and_brings_the_flows(light: Environment) -> None:
    (wheel,) = (light.folder / "dist").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert "searchanything/py.typed" in names
    assert any(name.startswith("searchanything_flows/") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "training/", "benchmarks/", "deploy/"))]


ASK = """
import json, sys
import searchanything
with searchanything.connect(sys.argv[1], key="sa_x_y") as client:
    results = client.query("s3://b/a.jpg", (3, 4), limit=1)
    found = {"repr": repr(results), "key": results[0].image.key, "status": client.status()["server"]}
    results.save("hits.png")
print(json.dumps(found))
"""
MASK = {"size": [4, 4], "counts": "04L"}
HIT = {
    "bucket": "b", "key": "a.jpg", "region": 0, "box_xyxy": [0, 0, 2, 2], "mask": MASK, "distance_bits": 3,
    "area_px": 4, "score": 0.5, "image": {"width": 4, "height": 4}, "etag": "e", "metadata": {},
    "similarity": 0.9, "false_match": None,
}  # fmt: skip
SELECTION = {
    "kind": "region", "box_xyxy": [0, 0, 2, 2], "area_px": 4, "mask": MASK, "score": 0.5, "rule": "r",
    "reason": "why", "runners_up": [], "text_match": None,
}  # fmt: skip
ANSWER = {"hits": [HIT], "selection": SELECTION, "good_match": True, "exact": True, "fingerprint": "f"}
ANSWER |= {"matching": None, "probe": None, "stages": []}


def test_it_asks_a_server(light: Environment) -> None:
    answers = {"/v1/query": ANSWER, "/v1/status": {"server": "searchanything"}}

    def answer(asked: Asked) -> Answer:
        return 200, {}, json.dumps(answers[asked.target]).encode() if asked.target in answers else b"\x89PNG"

    with web_server(answer) as server:
        found = json.loads(light.python(ASK, f"http://{server.endpoint}"))
    assert (found["key"], found["status"]) == ("a.jpg", "searchanything")
    assert (light.folder / "hits.png").read_bytes() == b"\x89PNG"


def wheel(light: Environment) -> Path:
    """What the package was installed from; the same file brings the extras."""
    (file,) = (light.folder / "dist").iterdir()
    return file


DOORS = {
    "connect": "searchanything.connect('index.db')",
    "connect to Milvus": "searchanything.connect('http://127.0.0.1:9')",
    "query": "searchanything.query('a.jpg')",
    "a prompt": "searchanything.Points((1, 2))",
    "settings": "searchanything.Settings()",
    "from": "from searchanything import Client",
}


@pytest.mark.parametrize("door", DOORS)
def test_each_door_in_python_names_the_command(light: Environment, door: str) -> None:
    program = f"""
import searchanything
try:
    {DOORS[door]}
except searchanything.SearchAnythingError as error:
    print(type(error).__name__, error)
"""
    said = light.python(program)
    assert said.startswith("LibraryError ")
    assert f"pip install '{wheel(light)}[local]'" in said


COMMANDS = {
    "": "local",
    "--help": "local",
    "index images --preset pico": "local",
    "query a.jpg --no-warm": "local",
    "query a.jpg": "local",
    "doctor": "local",
    "demo --scenes images": "local",
    "demo": "demo",
    "serve": "serve",
    "watch s3://b": "service",
    "worker --scheduler tls://h:1": "service",
    "cluster-key c.pem": "service",
    "deploy s3://b": "service",
}


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_names_the_command_that_installs_it(light: Environment, line: str) -> None:
    done = light.call(light.folder / "env" / "bin" / "searchanything", *line.split(), code=1)
    assert f"cure:  pip install '{wheel(light)}[{COMMANDS[line]}]'\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_scripts_get_the_command_as_json_and_the_version_needs_nothing(light: Environment) -> None:
    program = light.folder / "env" / "bin" / "searchanything"
    error = json.loads(light.call(program, "status", "--format", "json", code=1).stdout)["error"]
    assert (error["type"], error["cure"]) == ("LibraryError", f"pip install '{wheel(light)}[local]'")
    assert light.call(program, "--version").stdout.startswith("searchanything 0.")
