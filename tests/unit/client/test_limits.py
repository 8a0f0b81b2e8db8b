"""What a preset does not know is said once in a process, where it is asked, and on the demo's first screen."""

from __future__ import annotations

import logging
from importlib.resources import files
from pathlib import Path
from typing import NoReturn

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.cli.app import run
from searchanything.client.opening import connect
from searchanything.core.errors import SettingsError
from searchanything.models import limits
from searchanything.models.limits import limits_of, state_limits
from searchanything.models.presets import PRESETS


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_stated", set())


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    own = [one for one in caplog.records if one.name == limits.logger.name]
    assert all(one.levelno == logging.WARNING for one in own)
    return [one.getMessage() for one in own]


def test_a_query_on_pico_warns_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Machine().install(monkeypatch)
    Image.fromarray(drawn(64, 96, red=(4, 4, 40, 60))).save(tmp_path / "a.png")
    client = connect("memory://", preset="pico")
    client.index(tmp_path)
    assert said(caplog) == []  # indexing is not asking
    for _ in range(3):
        client.query(tmp_path / "a.png", (20, 30))
    assert said(caplog) == [PRESETS["pico"].limits]
    assert "pictograms" in said(caplog)[0]
    assert "on other photographs its answers are often arbitrary" in said(caplog)[0]


@pytest.mark.parametrize(
    ("preset", "source", "warns"),
    [("pico", "images", True), ("pico", "s3://searchanything-demo/", False), ("small", "images", False)],
)
def test_the_command_index_warns_before_it_begins(
    preset: str, source: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[list[str]] = []

    def connected(_uri: str | None, _preset: str | None) -> NoReturn:
        heard.append(said(caplog))
        raise SettingsError("no index here")

    for _ in range(2):
        assert run(["index", source, "--preset", preset], connect=connected) == 2
    assert heard == [[PRESETS["pico"].limits] if warns else []] * 2


def test_presets_for_photographs_and_foreign_ones_do_not(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("small", "paper", "base", "large", "multilingual", "from another version"):
        state_limits(name)
        assert limits_of(name) == ""
    assert said(caplog) == []


def test_who_says_it_elsewhere_need_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    state_limits("pico", heard.append)
    state_limits("pico")
    assert heard == [limits_of("pico")]
    assert said(caplog) == []


def test_the_demo_s_page_says_it_before_its_figures() -> None:
    page = (files("searchanything.demo") / "page.html").read_text("utf-8")
    assert page.index("$limits") < page.index("$facts")
