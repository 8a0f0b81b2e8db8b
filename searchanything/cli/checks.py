"""What `doctor` looks at: each check says what it found, and how to mend it.

A check never raises for what it is there to find.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import socket
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from packaging.requirements import Requirement

from searchanything.cli.session import Session
from searchanything.core.errors import SearchAnythingError
from searchanything.core.settings import ENV_PREFIX, Settings, load_settings

LIBRARIES = ("numpy", "cv2", "torch", "ultralytics", "open_clip", "pymilvus", "milvus_lite", "minio")
REINSTALL = "pip install --force-reinstall searchanything"
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `cure` is empty where there is nothing to mend."""

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


def examine(session: Session, *, uri: str | None, preset: str | None, source: str | None) -> Iterator[Finding]:
    """Run all checks, cheapest first. Without readable settings the others cannot be run."""
    yield python_version()
    yield library_versions()
    yield libraries_load()
    try:
        settings = load_settings()
    except SearchAnythingError as error:
        yield Finding("settings", "broken", str(error), "correct these variables; docs/settings.md lists them")
        return
    yield Finding("settings", "ok", "can be read")
    patient = Patient(settings, session, uri, preset, source)
    yield from index(patient)
    yield from s3_access(patient)
    yield store(patient)


def python_version() -> Finding:
    """Whether this Python is one that the package is made for."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        return Finding("python", "broken", f"{found}; expected 3.11 or 3.12", "use another Python")
    return Finding("python", "ok", found)


def library_versions() -> Finding:
    """Whether the installed libraries are of the versions that the package asks for."""
    try:
        wanted = importlib.metadata.requires("searchanything") or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("versions", "warning", "searchanything is not installed as a package", "pip install .")
    needed = [need for need in map(Requirement, wanted) if need.marker is None or need.marker.evaluate()]
    wrong = [complaint for complaint in map(_complaint, needed) if complaint]
    if wrong:
        return Finding("versions", "broken", "; ".join(wrong), REINSTALL)
    return Finding("versions", "ok", f"{len(needed)} libraries as required")


def _complaint(need: Requirement) -> str:
    try:
        found = importlib.metadata.version(need.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{need.name} is missing"
    return "" if need.specifier.contains(found, prereleases=True) else f"{need} expected, {found} found"


def libraries_load() -> Finding:
    """Whether the compiled libraries can be imported here."""
    failures = []
    for name in LIBRARIES:
        try:
            _load(name)
        except (ImportError, OSError) as error:  # OSError: a shared library of the system is missing
            failures.append(f"{name}: {' '.join(str(error).split())}")
    if failures:
        return Finding("libraries", "broken", "; ".join(failures), REINSTALL)
    return Finding("libraries", "ok", f"{', '.join(LIBRARIES)} load")


def _load(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in ("ultralytics", "open_clip"):  # loaded plainly they would reach for the network and the user's home
            from searchanything.models import quiet

            (quiet.import_ultralytics if name == "ultralytics" else quiet.import_open_clip)()
        else:
            importlib.import_module(name)


def index(patient: Patient) -> Iterator[Finding]:
    """Whether the index answers; then the models, because an index says which ones it needs."""
    uri = patient.uri or patient.settings.milvus.uri
    try:
        with patient.session.client(patient.uri, None) as client:
            status = client.status().to_dict()
    except SearchAnythingError as error:
        yield Finding("index", "broken", str(error), f"check --uri or {ENV_PREFIX}MILVUS__URI, and that it runs")
        yield models(patient, None)
        return
    if status["fingerprint"] is None:
        yield Finding("index", "ok", f"{uri}: reachable, nothing is indexed yet")
    else:
        yield Finding("index", "ok", f"{uri}: {status['images']:,} images, {status['regions']:,} regions")
    if status["failed"]:
        cure = "searchanything index SOURCE tries them again and lists the reasons"
        yield Finding("failures", "warning", f"{status['failed']:,} images failed at their last attempt", cure)
    yield models(patient, status["preset"])


def models(patient: Patient, of_index: str | None) -> Finding:
    """Whether the weights of the chosen preset are on this machine, undamaged and fit for the index."""
    from searchanything.models.presets import describe

    chosen = patient.preset or patient.settings.models.preset
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


def s3_access(patient: Patient) -> Iterator[Finding]:
    """How the source's bucket is reached, and where credentials were looked for; nothing for a folder."""
    if patient.source is None:
        return
    from searchanything.wiring import s3_access as described

    try:
        found = described(patient.source, patient.settings)
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
        from searchanything.wiring import open_source

        try:
            images, prefix = open_source(patient.source, patient.settings)
            found = next(iter(images.list(prefix)), None)
        except SearchAnythingError as error:
            return Finding("store", "broken", str(error), cure)
        if found is None:
            return Finding("store", "warning", f"{patient.source} holds nothing", "check bucket and prefix")
        return Finding("store", "ok", f"{patient.source} can be listed")
    if storage.endpoint is None:
        return Finding("store", "ok", "no S3 server is set: s3:// means AWS; name a SOURCE to check a bucket")
    return _reaches(storage.endpoint, 443 if storage.secure else 80, cure)


def _reaches(endpoint: str, default_port: int, cure: str) -> Finding:
    host, _, port = endpoint.rpartition(":") if endpoint.rpartition(":")[2].isdigit() else (endpoint, "", "")
    try:
        with socket.create_connection((host.strip("[]"), int(port or default_port)), timeout=CONNECT_TIMEOUT_S):
            return Finding("store", "ok", f"{endpoint} takes connections; name a SOURCE to check a bucket too")
    except OSError as error:
        return Finding("store", "broken", f"{endpoint} cannot be reached: {error.strerror or error}", cure)
