"""Settings come from the environment, and what is secret stays so."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from annotated_types import Le
from pydantic import SecretStr, ValidationError

from searchanything.core.errors import SettingsError
from searchanything.core.settings import ENV_PREFIX, MilvusSettings, Settings, load_settings
from searchanything.core.settings_table import settings_table

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables of ours and no `.env` from wherever the tests are started."""
    for name in list(os.environ):
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def test_nothing_needs_to_be_set(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.milvus.uri == str(tmp_path / ".local/share/searchanything/index.db")
    assert settings.models.weights_dir == tmp_path / ".cache/searchanything/weights"
    assert (settings.models.preset, settings.storage.endpoint, settings.storage.secret_key) == (None, None, None)
    assert (settings.ingest.box_min_iou, settings.milvus.index_type) == (0.1, "BIN_FLAT")


def test_the_environment_reaches_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that issue 3 promises to scripts, and one of each type."""
    given = {
        "STORAGE__ENDPOINT": "localhost:9000",
        "STORAGE__ACCESS_KEY": "someone",
        "STORAGE__SECRET_KEY": SECRET,
        "STORAGE__SECURE": "false",
        "STORAGE__TIMEOUT_S": "2.5",
        "MILVUS__URI": "http://localhost:19530",
        "MILVUS__CA_FILE": "/etc/ca.pem",
        "MODELS__PRESET": "pico",
        "MODELS__PRECISION": "bf16",
        "INGEST__BATCH_IMAGES": "4",
        "SERVICE__PREFECT_PORT": "80",
    }
    for name, value in given.items():
        monkeypatch.setenv(ENV_PREFIX + name, value)
    settings = load_settings()
    storage = settings.storage
    assert (storage.endpoint, storage.secure, storage.timeout_s) == ("localhost:9000", False, 2.5)
    assert storage.access_key is not None
    assert storage.secret_key is not None
    assert (storage.access_key.get_secret_value(), storage.secret_key.get_secret_value()) == ("someone", SECRET)
    assert (settings.milvus.uri, settings.milvus.ca_file) == ("http://localhost:19530", Path("/etc/ca.pem"))
    assert (settings.models.preset, settings.models.precision) == ("pico", "bf16")
    assert (settings.ingest.batch_images, settings.service.prefect_port) == (4, 80)


def test_secrets_never_show(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORAGE__ACCESS_KEY", "STORAGE__SECRET_KEY", "MILVUS__TOKEN"):
        monkeypatch.setenv(ENV_PREFIX + name, SECRET)
    settings = load_settings()
    shown = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
    shown += [repr(settings.storage), str(settings.milvus), repr(settings.model_copy(deep=True))]
    assert not any(SECRET in text for text in shown)
    assert all("**********" in text for text in shown)
    monkeypatch.setenv(ENV_PREFIX + "STORAGE__PROXY", f"http://me:{SECRET}@proxy.example:3128")
    monkeypatch.setenv(ENV_PREFIX + "MILVUS__URI", f"https://me:{SECRET}@milvus.example:19530")
    settings = load_settings()
    assert settings.milvus.uri.startswith(f"https://me:{SECRET}@")
    assert not any(SECRET in text for text in (repr(settings), str(settings), repr(settings.storage)))


@pytest.mark.parametrize("group", ["storage", "milvus"])
def test_whatever_sounds_secret_is_a_secret(group: str) -> None:
    model = Settings.model_fields[group].annotation
    assert model is not None
    names = [name for name in model.model_fields if re.search(r"key$|token|password|secret", name)]
    assert names
    assert all(SecretStr in getattr(model.model_fields[name].annotation, "__args__", ()) for name in names)


@pytest.mark.parametrize(
    "variable",
    [
        "STORAGE__SECURE",
        "STORAGE__TIMEOUT_S",
        "STORAGE__MAX_OBJECT_BYTES",
        "MILVUS__COLLECTION_PREFIX",
        "MILVUS__INDEX_TYPE",
        "MILVUS__CONSISTENCY",
        "MODELS__PRECISION",
        "INGEST__BATCH_IMAGES",
        "SERVICE__PREFECT_PORT",
        "STORAGE",
        "MILVUS",
        "MODELS",
    ],
)
def test_a_bad_value_names_its_variable_and_not_itself(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(ENV_PREFIX + variable, SECRET)
    with pytest.raises(SettingsError, match=rf"\b{ENV_PREFIX}{variable}: ") as caught:
        load_settings()
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("value", ['{"secret_key": "%s"}', '{"secret_key": "%s', '["%s"]', '"%s"', "%s", ""])
def test_a_group_is_not_one_value(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SEARCHANYTHING_STORAGE", value.replace("%s", SECRET))
    monkeypatch.setenv("SEARCHANYTHING_STORAGE__ENDPOINT", "localhost:9000")
    with pytest.raises(SettingsError, match=r"SEARCHANYTHING_STORAGE: .*nested names") as caught:
        load_settings()
    assert SECRET not in str(caught.value)


def test_all_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHANYTHING_SERVICE__PREFECT_PORT", "0")
    monkeypatch.setenv("SEARCHANYTHING_INGEST__BOX_MIN_IOU", "2")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "SEARCHANYTHING_SERVICE__PREFECT_PORT: " in str(caught.value)
    assert "SEARCHANYTHING_INGEST__BOX_MIN_IOU: " in str(caught.value)


def test_settings_made_in_code_do_not_show_their_values_either() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(milvus={"token": [SECRET]})  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "1abc", "with-hyphen", "a" * 33, "semi;colon"])
def test_a_collection_prefix_is_a_name_that_milvus_takes(prefix: str) -> None:
    with pytest.raises(ValidationError):
        MilvusSettings(collection_prefix=prefix)


def test_the_table_has_a_line_with_a_meaning_for_every_setting() -> None:
    lines = settings_table().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    expected = [
        f"`{ENV_PREFIX}{group}__{name}`".upper()
        for group, outer in Settings.model_fields.items()
        for name in outer.annotation.model_fields  # type: ignore[union-attr]
    ]
    assert [row[0] for row in rows] == expected
    assert all(len(row) == 4 and row[1] and row[3].endswith(".") for row in rows)
    assert "`SEARCHANYTHING_STORAGE__SECRET_KEY` | secret |" in settings_table()


@pytest.mark.parametrize("value", ["inf", "nan", "1e308"])
def test_no_time_is_without_end(value: str) -> None:
    """gRPC, asyncio and integers each fail in another way at such a time."""
    groups = [field.annotation for field in Settings.model_fields.values()]
    times = [(group, name) for group in groups for name in group.model_fields if name.endswith("_s")]
    assert len(times) > 15
    for group, name in times:
        with pytest.raises(ValidationError, match=name):
            group(**{name: value})
        [longest] = [one.le for one in group.model_fields[name].metadata if isinstance(one, Le)]
        assert longest <= 1e9
        assert getattr(group(**{name: str(longest)}), name) == longest
