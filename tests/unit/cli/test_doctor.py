"""The doctor finds what is broken, says how to fix it, and never breaks itself."""

import compileall
import importlib
import importlib.metadata
import json
import socket
import subprocess
import sys

import pytest

from searchanything.cli import checks
from searchanything.cli.app import run
from searchanything.core.errors import IndexFullError, IndexReadOnlyError, IndexUnavailableError, RegionIndexError
from searchanything.core.manifest import IndexManifest
from searchanything.ingest.reports import IndexStatus
from searchanything.models import presets

GENUINE_DESCRIBE = presets.describe
GENUINE_COMPILED_MODULES = checks.compiled_modules
MANIFEST = IndexManifest("f" * 16, "e" * 16, "pico", 256, "d", True, 1, 0)


class FakeClient:
    def __init__(
        self, manifest: IndexManifest | None = MANIFEST, failed: int = 0, refusal: RegionIndexError | None = None
    ) -> None:
        self.manifest, self.failed, self.refusal = manifest, failed, refusal
        self.lost, self.before = 0, set[str]()

    @property
    def operations(self) -> "FakeClient":
        return self

    def check_writable(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def presets_before(self) -> set[str]:
        return self.before

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def status(self) -> IndexStatus:
        held = {"images": 5, "failed": self.failed, "regions": 50, "lost": self.lost}
        return IndexStatus("i.db", **held, manifest=self.manifest)


@pytest.fixture(autouse=True)
def _sound_surroundings(monkeypatch, tmp_path):
    """Nothing of this machine's settings, weights or versions; each test breaks what it is about."""
    monkeypatch.chdir(tmp_path)
    for name in ("STORAGE__ENDPOINT", "MILVUS__URI", "MODELS__PRESET"):
        monkeypatch.delenv(f"SEARCHANYTHING_{name}", raising=False)
    monkeypatch.setenv("SEARCHANYTHING_MODELS__WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setattr(checks, "LIBRARIES", ("json",))
    monkeypatch.setattr(checks, "compiled_modules", lambda: iter(()))
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["numpy>=2; extra == 'local'"])
    monkeypatch.setattr(presets, "describe", lambda _name, _settings: ({}, {}))


def test_regions_without_rows_are_a_warning(capsys):
    client = FakeClient()
    assert "rows" not in examine(capsys, client=client)
    client.lost = 7
    assert examine(capsys, client=client)["rows"]["message"] == "7 regions of the index have no row"
    run(["status"], connect=lambda _uri, _preset: client)
    shown = capsys.readouterr().out
    assert "7 regions, whose rows are gone" in shown
    assert "sync repair SOURCE" in shown


def examine(capsys, *arguments: str, client: FakeClient | None = None, code: int = 0) -> dict[str, dict[str, str]]:
    """The findings by name."""
    found = client or FakeClient()
    assert run(["doctor", "--format", "json", *arguments], connect=lambda _uri, _preset: found) == code
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is (code == 0)
    findings = {finding["name"]: finding for finding in document["checks"]}
    assert all(finding["cure"] for finding in findings.values() if finding["state"] != "ok")
    return findings


def test_sound_installation(capsys):
    findings = examine(capsys)
    assert {finding["state"] for finding in findings.values()} == {"ok"}
    assert findings["index"]["message"].endswith("5 images, 50 regions")
    assert findings["models"]["message"].startswith("preset pico")


@pytest.mark.parametrize(
    ("manifest", "says", "cure"),
    [
        (MANIFEST, "5 images, 50 regions; it can be asked, but not written", "none is needed to ask it; to write: "),
        (None, "nothing is indexed yet; nothing can be written", ""),
    ],
)
@pytest.mark.parametrize("error", [IndexReadOnlyError, IndexFullError])
def test_an_index_that_can_only_be_asked_is_no_error_and_said_to_be_one(capsys, manifest, says, cure, error):
    why = "i.db: the index can be read but not written: attempt to write a readonly database; make it writable"
    found = examine(capsys, client=FakeClient(manifest, refusal=error(why)))["index"]
    assert found["state"] == "warning"
    assert found["message"].endswith(says)
    assert found["cure"] == f"{cure}{why}"


def test_an_index_of_which_that_is_not_known_is_broken(capsys):
    found = examine(capsys, client=FakeClient(refusal=IndexUnavailableError("it went away")), code=1)["index"]
    assert (found["state"], found["message"]) == ("broken", "it went away")


def test_foreign_and_missing_versions(capsys, monkeypatch):
    local = ["numpy<2", "no-such-thing>=1", "typer"]
    unneeded = ["gone; sys_platform == 'never' and extra == 'local'", "other; extra == 'serve'"]
    wanted = [*(f"{need}; extra == 'local'" for need in local), *unneeded]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: wanted)
    message = examine(capsys, code=1)["versions"]["message"]
    assert "numpy<2 expected" in message
    assert "no-such-thing is missing" in message
    assert "typer" not in message
    assert "gone" not in message
    assert "other" not in message


def test_libraries_that_do_not_load(monkeypatch, tmp_path):
    """Every kind of breaking, the process's own end among them; what comes after it is still looked at."""
    fakes = {
        "bare": "raise ImportError('libbare.so.1: cannot open shared object file')",
        "system": "raise OSError('libGL.so.1: cannot open shared object file: No such file or directory')",
        "strange": "raise RuntimeError('operator torchvision::nms does not exist')",
        "leaver": "raise SystemExit(3)",
        "crasher": "import os; os.abort()",
        "quitter": "import os; os._exit(5)",
        "sound": "",
    }
    for name, code in fakes.items():
        (tmp_path / f"fake_{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(checks, "LIBRARIES", (*(f"fake_{name}" for name in fakes), "fake_nowhere", "json"))
    *broken, ok = checks.libraries_load()
    assert [finding.state for finding in broken] == ["broken"] * 7
    said = {finding.message.partition(" ")[0]: finding for finding in broken}
    assert "libbare.so.1" in said["fake_bare"].message
    assert "libGL.so.1" in said["fake_system"].cure
    assert "SIGABRT" in said["fake_crasher"].message
    assert "exit code 5" in said["fake_quitter"].message
    assert said["fake_nowhere"].cure == 'pip install --force-reinstall "fake_nowhere"'
    assert ok.message == "fake_sound, json load"


@pytest.mark.parametrize("name", ["pymilvus", "torch"])
def test_a_library_that_ends_its_process_does_not_end_the_doctor(name, capsys, monkeypatch, tmp_path):
    """What the other checks import is not imported here; they import nothing of the models."""
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / f"{name}.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(checks, "LIBRARIES", ("json", name))
    findings = examine(capsys, code=1)
    assert list(findings)[:3] == ["python", "versions", "libraries"]
    if name == "torch":
        assert findings["index"]["state"] == findings["models"]["state"] == findings["store"]["state"] == "ok"
    else:
        assert findings["index"]["message"].startswith("not looked at")
        assert f"{name} would end this process" in findings["index"]["message"]
        assert "models" not in findings


def test_modules_that_each_command_compiles_anew_are_a_warning(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "compiled_modules", GENUINE_COMPILED_MODULES)
    (package := tmp_path / "site-packages" / "torch").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    importlib.invalidate_caches()
    finding = examine(capsys)["compiled"]
    assert finding["message"].startswith(f"{package.parent} keeps no compiled modules")
    assert f"-m compileall -q {package.parent}" in finding["cure"]
    compileall.compile_dir(package.parent, quiet=1)
    assert "compiled" not in examine(capsys)


def test_unreadable_settings_end_the_examination(capsys, monkeypatch):
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__TIMEOUT_S", "soon")
    findings = examine(capsys, code=1)
    assert "SEARCHANYTHING_MILVUS__TIMEOUT_S" in findings["settings"]["message"]
    assert "index" not in findings


def test_index_that_does_not_answer(capsys):
    client = FakeClient()
    client.status = lambda: (_ for _ in ()).throw(IndexUnavailableError("no answer from http://milvus:19530"))
    findings = examine(capsys, client=client, code=1)
    assert findings["index"]["state"] == "broken"
    assert findings["models"]["state"] == "warning"  # no preset chosen, and no index to say it


def test_empty_index_without_preset(capsys):
    findings = examine(capsys, client=FakeClient(manifest=None))
    assert "nothing is indexed yet" in findings["index"]["message"]
    assert findings["models"]["state"] == "warning"
    assert examine(capsys, "--preset", "pico", client=FakeClient(manifest=None))["models"]["state"] == "ok"


def test_failed_images_are_mentioned(capsys):
    assert "3 images failed" in examine(capsys, client=FakeClient(failed=3))["failures"]["message"]


def test_preset_that_contradicts_the_index(capsys):
    finding = examine(capsys, "--preset", "small", code=1)["models"]
    assert finding["cure"].startswith("--preset pico")


def test_a_preset_that_the_index_had_before_is_sound(capsys, monkeypatch):
    client = FakeClient()
    client.before = {"small"}
    looked: list[str] = []
    monkeypatch.setattr(presets, "describe", lambda name, _settings: looked.append(name) or ({}, {}))
    found = examine(capsys, "--preset", "small", client=client)["models"]
    assert (found["state"], looked) == ("ok", ["pico"])


def test_missing_weights(capsys, monkeypatch):
    monkeypatch.setattr(presets, "describe", GENUINE_DESCRIBE)
    finding = examine(capsys, "--preset", "paper", client=FakeClient(manifest=None), code=1)["models"]
    assert "FastSAM-x is not at" in finding["message"]
    assert finding["cure"] == "searchanything models fetch paper"


@pytest.mark.parametrize("secure", [True, False])
def test_endpoint_that_takes_connections(capsys, monkeypatch, secure):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))  # from here on no other program is given its port
        port = server.getsockname()[1]
        monkeypatch.setenv("SEARCHANYTHING_STORAGE__ENDPOINT", f"127.0.0.1:{port}")
        monkeypatch.setenv("SEARCHANYTHING_STORAGE__SECURE", str(secure))
        finding = examine(capsys, code=1)["store"]
        server.listen()
        assert examine(capsys)["store"]["state"] == "ok"
    assert f"127.0.0.1:{port} cannot be reached" in finding["message"]
    assert "STORAGE__ENDPOINT" in finding["cure"]


@pytest.mark.parametrize(
    "endpoint", ["http://me:hunter2@127.0.0.1:1", "me:hunter2@127.0.0.1:1", "127.0.0.1/?k=hunter2"]
)
def test_an_endpoint_with_a_password_is_broken_and_not_shown(capsys, monkeypatch, endpoint):
    monkeypatch.setenv("SEARCHANYTHING_STORAGE__ENDPOINT", endpoint)
    finding = examine(capsys, code=1)["store"]
    assert finding["state"] == "broken"
    assert "hunter2" not in str(finding)


def test_source_is_listed(capsys, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    assert examine(capsys, str(folder))["store"]["state"] == "warning"
    (folder / "a.jpg").write_bytes(b"")
    assert examine(capsys, str(folder))["store"]["state"] == "ok"
    assert examine(capsys, str(tmp_path / "nowhere"), code=1)["store"]["state"] == "broken"
    assert examine(capsys, "s3://bucket", code=1)["store"]["state"] == "broken"  # no endpoint is set


def test_text_for_people(capsys):
    assert run(["doctor", "--preset", "small"], connect=lambda _uri, _preset: FakeClient()) == 1
    text = capsys.readouterr().out
    assert "broken  models" in text
    assert "cure: --preset pico" in text


class SlowProbe:
    """A machine on which a process may load so many libraries within the limit, and `stuck` never ends."""

    def __init__(self, most: int, stuck: str = "") -> None:
        self.most, self.stuck = most, stuck

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        names = command[3:]
        begun = names[: min(self.most, names.index(self.stuck) if self.stuck in names else self.most) + 1]
        printed = "".join(json.dumps({"begun": name}) + "\n" for name in begun)
        if len(begun) > self.most or begun[-1] == self.stuck:
            raise subprocess.TimeoutExpired(command, 1, output=printed.encode())
        return subprocess.CompletedProcess(command, 0, printed, "")


def test_a_slow_machine_breaks_no_library(monkeypatch):
    """The limit is each library's: one that is begun late is not to blame for those before it."""
    monkeypatch.setattr(checks, "LIBRARIES", ("a", "b", "c", "d", "e"))
    monkeypatch.setattr(checks.subprocess, "run", SlowProbe(most=2))
    assert [(one.state, one.message) for one in checks.libraries_load()] == [("ok", "a, b, c, d, e load")]


def test_a_library_that_never_ends_is_named_alone(monkeypatch):
    monkeypatch.setattr(checks, "LIBRARIES", ("a", "b", "c", "d", "e"))
    monkeypatch.setattr(checks.subprocess, "run", SlowProbe(most=2, stuck="d"))
    broken, sound = checks.libraries_load()
    assert broken.message.startswith("d cannot be loaded: it does not finish within")
    assert sound.message == "a, b, c, e load"


def test_a_source_that_is_not_there_is_a_wrong_name_and_no_wrong_key(capsys, tmp_path):
    found = examine(capsys, "--preset", "pico", str(tmp_path / "fotos"), code=1)
    assert found["store"]["cure"] == "correct the name in SOURCE"
