"""A name that was meant to be a setting is told; what others have named is left alone."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from fakes.environments import without_settings

from searchanything.core.errors import SettingsError
from searchanything.core.settings import ENV_PREFIX, Settings, load_settings
from searchanything.core.unknown_settings import unknown_settings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_settings(monkeypatch)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MILVUS__URL", "MILVUS__URI"),
        ("STORAGE__ENDPONT", "STORAGE__ENDPOINT"),
        ("STORAGE_ENDPOINT", "STORAGE__ENDPOINT"),
        ("STORGE__ENDPOINT", "STORAGE__ENDPOINT"),
        ("PRESET", "MODELS__PRESET"),
        ("FOO__BAR", ""),
    ],
)
def test_a_misspelt_name_is_told_with_the_nearest_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, "x")
    (found,) = unknown_settings(Settings, [])
    assert (found.name, found.nearest) == (ENV_PREFIX + name, ENV_PREFIX + nearest if nearest else "")


@pytest.mark.parametrize(
    "name",
    [
        "MILVUS__URI",
        "milvus__uri",
        "ENV_FILE",
        "DEBUG",
        "SERVICE_HOST",  # of Kubernetes, for a service with this name
        "SERVICE_PORT_HTTP",
        "PORT_8600_TCP_ADDR",
        "STORAGE_PORT",
        "CHAOS_SEEDS",
    ],
)
def test_settings_and_names_of_others_are_not_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, "1")
    assert unknown_settings(Settings, []) == []


def test_a_file_is_looked_through_as_well_and_each_name_is_told_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "project.env"
    file.write_text(f"{ENV_PREFIX}MODELS__PRESETS=pico\n{ENV_PREFIX}MODELS__PRESET=pico\nOTHER__NAME=1\n")
    monkeypatch.setenv(f"{ENV_PREFIX}ENV_FILE", str(file))
    with caplog.at_level(logging.WARNING):
        load_settings()
        load_settings()
    (record,) = [one for one in caplog.records if "no setting" in one.message]
    assert record.message == (
        f"{ENV_PREFIX}MODELS__PRESETS ({file}) is no setting and does nothing; did you mean {ENV_PREFIX}MODELS__PRESET?"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"milvus": {"urii": "x", "nlist": 8}}, "milvus.urii is no setting, did you mean milvus.uri?"),
        ({"milvus": {"URI": "x"}}, "milvus.URI is no setting, did you mean milvus.uri?"),
        ({"milvsu": {"uri": "x"}}, "milvsu is no setting, did you mean milvus?"),
        ({"uri": "x"}, "uri is no setting, did you mean milvus.uri?"),
        (
            {"storage": {"colour": 1}, "serve": {"prot": 1}},
            "storage.colour is no setting; serve.prot is no setting, did",
        ),
    ],
)
def test_a_misspelt_name_in_python_is_refused_with_the_nearest_setting(
    given: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}"):
        Settings(**given)


def test_what_another_version_leaves_in_the_environment_only_warns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}MILVUS__URII", "x")
    settings = Settings(milvus={"nlist": 8}, service={"period_s": 60.0})
    assert (settings.milvus.nlist, settings.service.period_s) == (8, 60.0)
