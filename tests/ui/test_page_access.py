"""axe-core looks for faults of access on the page, light and dark."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from fakes.pages import ROOT, SCREENSHOTS, browser, identity, served
from fakes.serving import Served
from playwright.sync_api import Browser

__all__ = ["browser", "served"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]

AXE = ROOT / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
AXE_VERSION = "4.10.3"


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's source, fetched once by npm; its licence (MPL-2.0) keeps it out of this repository."""
    if not AXE.exists():
        if shutil.which("npm") is None:
            pytest.fail("npm is missing: it fetches axe-core, which looks for faults of access; apt-get install npm")
        folder = AXE.parents[2]
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            "npm",
            "install",
            "--no-save",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(folder),
            f"axe-core@{AXE_VERSION}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        if done.returncode or not AXE.exists():
            pytest.fail(f"axe-core cannot be fetched, and this test needs it once: {done.stderr[-400:]}")
    return AXE.read_text("utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "state", ["browse", "opened", "hits", "filters", "help", "words", "refined", "like", "keep", "standing"]
)
def test_axe_finds_no_serious_fault(
    browser: Browser, served: tuple[Served, str], axe: str, state: str, scheme: Any
) -> None:
    context = browser.new_context(base_url=served[1], color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    page = context.new_page()
    image = identity(served, "a/two.png")
    asked = f"/?image={image}&region=0"
    addresses = {
        "browse": "/",
        "opened": f"/?image={image}",
        "words": "/?text=blue",
        "refined": f"{asked}&right={image}:1&refined=1",
        "like": f"/?like={image}:0&like={image}:1",
    }
    page.goto(addresses.get(state, asked))
    page.wait_for_selector({"browse": ".image-tile img.there", "opened": "#start:visible"}.get(state, ".hit img.there"))
    if state == "filters":
        page.click("#filters-button")
    if state == "help":
        page.keyboard.press("?")
    if state == "keep":
        page.click("#keep")
    if state == "standing":
        page.click("#standing-button")
        page.wait_for_selector("#dialog-body b")
    page.evaluate(axe)
    found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    page.screenshot(path=SCREENSHOTS / f"page-axe-{state}-{scheme}.png")
    context.close()
    serious = [
        (one["id"], one["help"], [node["html"][:120] for node in one["nodes"]][:3])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
