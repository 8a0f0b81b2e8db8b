"""The documentation as people open it, from disk and from a server: it is searched, and nothing is cut off."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CUT_OFF = """() => {
  const room = document.documentElement.clientWidth;
  const scrolls = (one) => ["auto", "scroll", "hidden"].includes(getComputedStyle(one).overflowX);
  const inside = (one) => one.parentElement && (scrolls(one.parentElement) || inside(one.parentElement));
  const far = [...document.querySelectorAll(".md-content *")].filter(
    (one) => one.getBoundingClientRect().width && one.getBoundingClientRect().right > room + 1 && !inside(one));
  return far.map((one) => one.outerHTML.slice(0, 100)).concat(
    document.documentElement.scrollWidth > room + 1 ? ["the page is wider than its window"] : []);
}"""
pytestmark = pytest.mark.ui


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    return folder


@pytest.fixture(scope="module")
def hosted(site) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(site, browser):
    """Opens a page of the documentation in a window of some width."""
    pages = []

    def open_page(name: str, width: int):
        pages.append(browser.new_page(viewport={"width": width, "height": 900}))
        pages[-1].goto(f"file://{site}/{name}.html")
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize("way", ["disk", "server"])
def test_the_search_finds_and_nothing_is_fetched_from_elsewhere(way, site, hosted, browser) -> None:
    start = f"file://{site}" if way == "disk" else hosted
    page = browser.new_page()
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(f"{start}/index.html")
    page.click(".md-search__input")
    page.keyboard.type("granularity")
    page.wait_for_selector(".md-search-result__item", timeout=60_000)
    found = page.locator(".md-search-result__item").all_inner_texts()
    assert any("Part, object, whole" in one or "granularity" in one.lower() for one in found)
    assert [url for url in asked if not url.startswith((start, "data:", "about:"))] == []
    assert failed == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 760, 1300, 1600])
def test_nothing_is_cut_off(width, scheme, site, browser) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    cut = {}
    for file in sorted(site.glob("*.html")):
        page.goto(f"file://{file}")
        if far := page.evaluate(CUT_OFF):
            cut[file.name] = far[:3]
    context.close()
    assert cut == {}


def test_no_word_of_an_error_s_name_is_broken(site, browser) -> None:
    """A name in one line is as high as one line."""
    for width in (400, 1300):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(f"file://{site}/errors.html")
        heights = page.evaluate(
            "() => [...document.querySelectorAll('td:first-child code')].map((one) => one.getClientRects().length)"
        )
        assert len(heights) > 20
        assert set(heights) == {1}
        page.close()


BROKEN_OPTIONS = """() => {
  const broken = [];
  for (const code of document.querySelectorAll(".md-typeset code")) {
    const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    for (let node; (node = texts.nextNode()); )
      for (const found of node.textContent.matchAll(/(?<![\\w-])--?[A-Za-z][\\w-]*|'\\.\\[\\w+\\]'/g)) {
        const range = document.createRange();
        range.setStart(node, found.index);
        range.setEnd(node, found.index + found[0].length);
        if (new Set([...range.getClientRects()].map((one) => Math.round(one.top))).size > 1) broken.push(found[0]);
      }
  }
  return broken;
}"""


@pytest.mark.parametrize("width", [400, 1280])
def test_no_option_and_no_extra_is_broken(width, site, browser) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    broken = {}
    for file in sorted(site.glob("*.html")):
        page.goto(f"file://{file}")
        if found := page.evaluate(BROKEN_OPTIONS):
            broken[file.name] = found
    page.close()
    assert broken == {}


CUT_BLOCKS = """() => [...document.querySelectorAll("pre.wraps > code, pre.wraps-wide > code")]
  .filter((one) => getComputedStyle(one).whiteSpace.startsWith("pre-wrap") && one.scrollWidth > one.clientWidth + 1)
  .map((one) => one.textContent.slice(0, 60))"""
NOT_WRAPPED = """() => [...document.querySelectorAll("pre.wraps > code")]
  .filter((one) => !getComputedStyle(one).whiteSpace.startsWith("pre-wrap")).length"""
BROKEN_SHORT = """() => [...document.querySelectorAll(".md-typeset code.short, .md-typeset td.range")]
  .filter((one) => one.tagName === "CODE" && one.getClientRects().length > 1).map((one) => one.textContent)"""


@pytest.mark.parametrize("width", [400, 1280])
def test_commands_are_read_without_scrolling_and_short_code_is_whole(width, site, browser) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    cut, broken = {}, {}
    for file in sorted(site.glob("*.html")):
        page.goto(f"file://{file}")
        assert page.evaluate(NOT_WRAPPED) == 0
        if found := page.evaluate(CUT_BLOCKS):
            cut[file.name] = found
        if width > 1000 and (short := page.evaluate(BROKEN_SHORT)):
            broken[file.name] = short
    page.close()
    assert (cut, broken) == ({}, {})


def test_plots_fit_a_phone(site, browser) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 900})
    for name in ("performance", "architecture", "refining"):
        page.goto(f"file://{site}/{name}.html")
        wide = page.evaluate(
            "() => [...document.querySelectorAll('.md-content img:not(.sheet)')]"
            ".filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.src)"
        )
        assert wide == []
    page.close()


def test_a_figure_in_a_card_says_of_what(opened) -> None:
    """Rows are cards on narrow screens, without the table's head: a bare number needs its column's name."""
    shown = opened("cluster", 400).evaluate(
        "() => [...document.querySelectorAll('td:first-child')].filter((one) => one.textContent.trim() === '10⁶')"
        ".map((one) => getComputedStyle(one, '::before').content)"
    )
    assert shown == ['"regions"']


def test_meanings_have_room(opened) -> None:
    page = opened("settings", 1280)
    widths = page.evaluate(
        "() => [...document.querySelectorAll('td[data-column=meaning]')].map((one) => one.offsetWidth)"
    )
    assert len(widths) > 50
    assert min(widths) >= 240
    scrolled = page.evaluate(
        "() => [...document.querySelectorAll('.md-typeset__scrollwrap')]"
        ".filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    )
    assert scrolled == 0  # and yet the table is no wider than its place
