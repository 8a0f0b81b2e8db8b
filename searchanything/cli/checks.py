"""What `doctor` looks at: each check says what it found, and how to fix it.

A check never raises for what it is there to find.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from searchanything.cli.session import Session
from searchanything.core.addresses import shown_address, shown_index
from searchanything.core.counting import counted
from searchanything.core.errors import IndexReadOnlyError, LibraryError, ObjectNotFoundError, SearchAnythingError
from searchanything.core.extras import DISTRIBUTION, LOCAL, install_command
from searchanything.core.libraries import importing, library_cure
from searchanything.core.settings_files import ENV_PREFIX, settings_files

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from searchanything.client.client import Client
    from searchanything.core.settings import Settings

LIBRARIES = (
    "numpy",
    "PIL",
    "pi_heif",
    "cv2",
    "pycocotools",
    "scipy",
    "matplotlib",
    "torch",
    "torchvision",
    "open_clip",
    "grpc",
    "pymilvus",
    "milvus_lite",
    "minio",
    "pydantic_settings",
)
_OF_MODELS: Final = ("torch", "torchvision", "open_clip")  # no check loads them in this process
CONNECT_TIMEOUT_S = 5.0
LOAD_TIMEOUT_S = 300.0
# Runs in another process: a library may end the process that loads it.
_PROBE: Final = """
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
for name in sys.argv[1:]:
    print(json.dumps({"begun": name}), flush=True)
    try:
        if name in ("torchvision", "open_clip"):
            from searchanything.models import quiet
            getattr(quiet, f"import_{name}")()
        else:
            importlib.import_module(name)
    except BaseException as error:
        error = error.__cause__ or error
        reason = " ".join(str(error).split()) or type(error).__name__
        print(json.dumps({"failed": name, "reason": reason}), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `cure` is empty where there is nothing to fix."""

    name: str
    state: Literal["ok", "warning", "broken"]
    message: str
    cure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined: the settings with the command line's choices, and a way to reach the index."""

    settings: Settings
    session: Session
    uri: str | None
    preset: str | None
    source: str | None


def run_checks(session: Session, *, uri: str | None, preset: str | None, source: str | None) -> Iterator[Finding]:
    """Run all checks, cheapest first. Without readable settings the others cannot be run."""
    yield python_version()
    yield library_versions()
    ending = yield from libraries_load()
    yield from compiled_modules()
    if loaded_here := [name for name in ending if name not in _OF_MODELS]:
        message = f"not looked at, nor are settings, models and store: {loaded_here[0]} would end this process as well"
        yield Finding("index", "broken", message, "first make that library load, as above")
        return
    try:
        with importing():
            from searchanything.core.settings import load_settings
            from searchanything.core.unknown_settings import unknown_settings
        settings = load_settings()
    except LibraryError as error:
        yield Finding("settings", "broken", str(error), error.cure)
        return
    except SearchAnythingError as error:
        yield Finding("settings", "broken", str(error), "correct these variables; docs/settings.md lists them")
        return
    unknown = unknown_settings(type(settings), [path for path, _ in settings_files()])
    for one in unknown:
        yield Finding("settings", "warning", str(one), "correct or unset it")
    if not unknown:
        yield Finding("settings", "ok", "can be read")
    patient = Patient(settings, session, uri, preset, source)
    yield from index_answers(patient)
    yield from bucket_access(patient)
    yield store(patient)


def python_version() -> Finding:
    """Whether this Python is one that the package is made for."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if not (3, 11) <= sys.version_info[:2] < (3, 15):
        return Finding("python", "broken", f"{found}; expected 3.11 to 3.14", "use another Python")
    return Finding("python", "ok", found)


def library_versions() -> Finding:
    """Whether the installed libraries are of the versions that the package asks for."""
    try:
        wanted = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("versions", "warning", f"{DISTRIBUTION} is not installed as a package", install_command(LOCAL))
    try:
        from packaging.requirements import Requirement
    except ImportError as error:
        return Finding("versions", "broken", f"packaging: {error}", library_cure("packaging", str(error)))
    here = {"extra": LOCAL}  # the command line runs, so that is what was installed, if not more
    needed = [need for need in map(Requirement, wanted) if need.marker is None or need.marker.evaluate(here)]
    wrong = [complaint for complaint in map(_complaint, needed) if complaint]
    if wrong:
        return Finding("versions", "broken", "; ".join(wrong), install_command(LOCAL, "--force-reinstall"))
    return Finding("versions", "ok", f"{counted(len(needed), 'library', 'libraries')} as required")


def _complaint(need: Requirement) -> str:
    try:
        found = importlib.metadata.version(need.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{need.name} is missing"
    return (
        ""
        if need.specifier.contains(found, prereleases=True)
        else f"{need.name}{need.specifier} expected, {found} found"
    )


def compiled_modules() -> Iterator[Finding]:
    """A finding where each process compiles all that it imports: `libraries_load` has had it compiled, to no avail."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None or spec.cached is None or Path(spec.cached).exists():
        return
    folder = Path(spec.origin).parents[1]
    message = f"{folder} keeps no compiled modules: each command compiles what it imports, and starts slowly"
    cure = f"{sys.executable} -m compileall -q {folder}, as a user who may write there"
    yield Finding("compiled", "warning", message, cure)


def libraries_load() -> Generator[Finding, None, list[str]]:
    """Whether the compiled libraries can be loaded here: one finding for all that can, one for each that cannot.

    Returns those that end the process that loads them, or do not load in time.
    """
    failures, ending = {}, []
    for name, reason, ends in _failures(list(LIBRARIES)):
        failures[name] = reason
        ending += [name] if ends else []
        yield Finding("libraries", "broken", f"{name} cannot be loaded: {reason}", library_cure(name, reason))
    if sound := [name for name in LIBRARIES if name not in failures]:
        yield Finding("libraries", "ok", f"{', '.join(sound)} load")
    return ending


def _failures(names: list[str]) -> Iterator[tuple[str, str, bool]]:
    """The libraries that cannot be loaded, with the reason, and whether that is that its process ends or hangs."""
    while names:
        command = [sys.executable, "-P", "-c", _PROBE, *names]  # -P: nothing is imported from the working directory
        try:
            probe = subprocess.run(command, capture_output=True, text=True, timeout=LOAD_TIMEOUT_S, check=False)
            code, printed, said = probe.returncode, probe.stdout, probe.stderr
        except subprocess.TimeoutExpired as error:
            code, printed, said = None, (error.stdout or b"").decode(), ""
        events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        yield from ((event["failed"], event["reason"], False) for event in events if "failed" in event)
        begun = [event["begun"] for event in events if "begun" in event]
        if code == 0:
            return
        if not begun:
            yield "python", f"no other process could be started: {' '.join(said.split())[-200:]}", False
            return
        if code is None and begun[-1] != names[0]:
            names = names[names.index(begun[-1]) :]  # those before it took the time: once more, with all of it
            continue
        yield begun[-1], _end_of(code), True
        names = names[names.index(begun[-1]) + 1 :]


def _end_of(code: int | None) -> str:
    if code is None:
        return f"it does not finish within {LOAD_TIMEOUT_S:.0f} s"
    return f"it ends the process ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"


def index_answers(patient: Patient) -> Iterator[Finding]:
    """Whether the index answers; then the models, because an index says which ones it needs."""
    uri = shown_index(patient.uri or patient.settings.milvus.uri)
    try:
        with patient.session.client(patient.uri, None) as client:
            status = client.status().to_dict()
            refusal, before = _refusal(client), client.operations.presets_before()
    except LibraryError as error:
        yield Finding("index", "broken", f"not looked at: {error.library} cannot be loaded", error.cure)
        yield models(patient, None)
        return
    except SearchAnythingError as error:
        yield Finding("index", "broken", str(error), f"check --uri or {ENV_PREFIX}MILVUS__URI, and that it runs")
        yield models(patient, None)
        return
    holds = f"{uri}: {counted(status['images'], 'image')}, {counted(status['regions'], 'region')}"
    only_asked, cure = "it can be asked, but not written", f"none is needed to ask it; to write: {refusal}"
    if status["fingerprint"] is None:
        holds, only_asked, cure = f"{uri}: reachable, nothing is indexed yet", "nothing can be written", refusal
    if refusal:
        yield Finding("index", "warning", f"{holds}; {only_asked}", cure)
    else:
        yield Finding("index", "ok", holds)
    if status["lost"]:
        cure = "searchanything sync repair SOURCE indexes their images again"
        yield Finding("rows", "warning", f"{counted(status['lost'], 'region')} of the index have no row", cure)
    if status["failed"]:
        cure = "searchanything index SOURCE tries them again and lists the reasons"
        yield Finding("failures", "warning", f"{counted(status['failed'], 'image')} failed at the last attempt", cure)
    yield models(patient, status["preset"], before)


def _refusal(client: Client) -> str:
    """Why nothing can be written to the index, which can be asked nevertheless; empty where something can."""
    try:
        client.operations.check_writable()
    except IndexReadOnlyError as error:
        return str(error)
    return ""


def models(patient: Patient, of_index: str | None, before: Collection[str] = ()) -> Finding:
    """Whether the weights of the chosen preset are on this machine, undamaged and fit for the index.

    Who chose one that the index had `before` follows it.
    """
    try:
        with importing():
            from searchanything.models.presets import describe
    except LibraryError as error:
        return Finding("models", "broken", f"not looked at: {error.library} cannot be loaded", error.cure)
    chosen = patient.preset or patient.settings.models.preset
    if chosen in before:
        chosen = of_index
    if chosen and of_index and chosen != of_index:
        message = f"preset {chosen} is asked for, the index was made with {of_index}"
        return Finding("models", "broken", message, f"--preset {of_index}, or another --uri")
    name = chosen or of_index
    if name is None:
        cure = "--preset pico to try, or: searchanything models fetch small"
        return Finding("models", "warning", "no preset chosen", cure)
    try:
        describe(name, patient.settings.models)
    except SearchAnythingError as error:
        return Finding("models", "broken", str(error), f"searchanything models fetch {name}")
    return Finding("models", "ok", f"preset {name}: all weights are here and undamaged")


def bucket_access(patient: Patient) -> Iterator[Finding]:
    """How the source's bucket is reached, and where credentials were looked for; nothing for a folder."""
    if patient.source is None:
        return
    from searchanything.wiring import s3_access

    try:
        found = s3_access(patient.source, patient.settings)
    except SearchAnythingError as error:
        yield Finding("s3", "broken", str(error), f"check the variables {ENV_PREFIX}STORAGE__…")
        return
    if found is not None:
        yield Finding("s3", "ok", found)


def store(patient: Patient) -> Finding:
    """Whether the given source can be listed; without one, whether the S3 server takes connections."""
    storage = patient.settings.storage
    cure = f"check {ENV_PREFIX}STORAGE__ENDPOINT, …__ACCESS_KEY, …__SECRET_KEY and …__SECURE"
    if patient.source is not None:
        try:
            with importing():
                from searchanything.wiring import open_source
            images, prefix = open_source(patient.source, patient.settings)
            found = next(iter(images.list(prefix)), None)
        except LibraryError as error:
            return Finding("store", "broken", str(error), error.cure)
        except ObjectNotFoundError as error:
            return Finding("store", "broken", str(error), "correct the name in SOURCE")
        except SearchAnythingError as error:
            return Finding("store", "broken", str(error), cure)
        if found is None:
            return Finding("store", "warning", f"{patient.source} is empty", "check bucket and prefix")
        return Finding("store", "ok", f"{patient.source} can be listed")
    if storage.endpoint is None:
        return Finding("store", "ok", "no S3 server is set: s3:// means AWS; name a SOURCE to check a bucket")
    return _reaches(storage.endpoint, 443 if storage.secure else 80, cure)


def _reaches(endpoint: str, default_port: int, cure: str) -> Finding:
    host, _, port = endpoint.rpartition(":") if re.search(r":[0-9]{1,5}$", endpoint) else (endpoint, "", "")
    shown = shown_address(endpoint)
    try:
        with socket.create_connection((host.strip("[]"), int(port or default_port)), timeout=CONNECT_TIMEOUT_S):
            return Finding("store", "ok", f"{shown} takes connections; name a SOURCE to check a bucket too")
    except (OSError, OverflowError) as error:  # the latter for a port beyond 65535
        reason = getattr(error, "strerror", None) or error
        return Finding("store", "broken", f"{shown} cannot be reached: {reason}", cure)
