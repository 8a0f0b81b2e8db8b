"""What the wheel asks for can be installed by plain pip without a desktop, and the sdist holds each file once."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements" / "service.lock").read_text("utf-8")
DEV_LOCK = (ROOT / "requirements" / "dev.lock").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def locked() -> set[str]:
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", LOCK, re.M))


def test_one_opencv_is_asked_for_by_all_that_the_wheel_brings() -> None:
    """The override in our own environments hides nothing: no library of the lock asks for another build."""
    asking = {}
    for name in locked():
        try:
            needs = [Requirement(need) for need in importlib.metadata.requires(name) or ()]
        except importlib.metadata.PackageNotFoundError:
            continue  # of another system
        asked = {
            need.name for need in needs if "extra" not in str(need.marker or "") and need.name.startswith("opencv")
        }
        if asked:
            asking[name] = asked
    assert asking == {}
    assert {name for name in locked() if name.startswith("opencv")} == {"opencv-python-headless"}


def test_each_requirement_names_the_oldest_version_and_the_lock_keeps_to_it() -> None:
    versions = dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;]+)", DEV_LOCK, re.M))
    groups = PROJECT["project"]["optional-dependencies"].values()
    for need in (Requirement(one) for group in groups for one in group if not one.startswith("searchanything[")):
        assert {one.operator for one in need.specifier} & {">=", "=="}, need
        assert versions[re.sub(r"[-_.]+", "-", need.name).lower()] in need.specifier, need


def test_ultralytics_is_no_dependency_of_the_wheel() -> None:
    optional = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(one for group in optional for one in group)]
    assert "ultralytics" not in {Requirement(one).name for one in wanted}
    sources = list((ROOT / "searchanything").rglob("*.py"))
    assert [
        path.name for path in sources if re.search(r"^\s*(?:import|from) ultralytics", path.read_text("utf-8"), re.M)
    ] == []


def test_the_sdist_has_each_file_once_and_the_flows_under_both_names(tmp_path: Path) -> None:
    """A wheel is built from the second name, the image from the first."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path], cwd=ROOT, check=True)
    (file,) = tmp_path.iterdir()
    with tarfile.open(file) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
    assert len(names) == len(set(names))
    flows = {path.name for path in (ROOT / "flows").iterdir() if path.is_file()}
    for folder in ("flows", "searchanything_flows"):
        assert {name.partition("/")[2] for name in names if name.partition("/")[0] == folder} == flows
