"""A task's settings reach its worker as Prefect would send them, and are built there once."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from prefect.context import SettingsContext, hydrated_context, serialize_context
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_LEVEL, PREFECT_UI_URL, get_current_settings
from prefect.settings.context import temporary_settings

from searchanything_flows.sent_settings import SentSettings, built


@pytest.fixture(autouse=True)
def coordinator() -> Iterator[None]:
    """Settings of a coordinator, other than the environment's."""
    built.cache_clear()
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_UI_URL: "http://ui"}):
        yield


def current() -> SettingsContext:
    context = SettingsContext.get()
    assert context is not None
    return context


def sent(settings: SentSettings) -> bytes:
    """What travels with a task."""
    with settings.context():
        return pickle.dumps(serialize_context())


def test_a_worker_has_what_prefect_would_have_built_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, prefects = sent(SentSettings()), pickle.dumps(serialize_context())
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "ERROR")  # of the worker's own environment
    found = []
    with temporary_settings({PREFECT_API_URL: "http://worker"}):
        for one in (ours, prefects):
            with hydrated_context(pickle.loads(one)):  # noqa: S301
                found.append(get_current_settings())
    assert found[0] == found[1]
    assert (PREFECT_API_URL.value_from(found[0]), PREFECT_UI_URL.value_from(found[0])) == (
        "http://127.0.0.1:9/api",
        "http://ui",
    )
    assert PREFECT_LOGGING_LEVEL.value_from(found[0]) == "ERROR"


def test_settings_are_built_once_for_many_tasks() -> None:
    settings = SentSettings()
    first, second = (pickle.loads(sent(settings))["settings_context"]["settings"] for _ in range(2))  # noqa: S301
    assert first is second


def test_other_settings_are_built_anew() -> None:
    pickle.loads(sent(SentSettings()))  # noqa: S301
    with temporary_settings({PREFECT_UI_URL: "http://other"}):
        other = pickle.loads(sent(SentSettings()))  # noqa: S301
    assert PREFECT_UI_URL.value_from(other["settings_context"]["settings"]) == "http://other"


def test_nothing_changes_for_the_sender() -> None:
    before = current()
    with SentSettings().context():
        assert get_current_settings() is before.settings
    assert SettingsContext.get() is before
