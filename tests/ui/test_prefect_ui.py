"""What a person sees in Prefect's UI: the run that indexed an upload, and its artifact. Debian's chromium, headless.

Screenshots are kept in `build/ui/`.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from chaos.histories import picture
from chaos.parts import MortalLite, with_fakes
from fakes.pages import SCREENSHOTS, launched_chromium
from playwright.sync_api import Page
from urllib3 import make_headers

from deploy.local import Stack
from searchanything.stores.s3 import S3Store

pytestmark = [pytest.mark.ui, pytest.mark.timeout(900)]

_IMAGES = 3
_WAIT_S = 240.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole service, with a few images in its bucket."""
    folder = tmp_path_factory.mktemp("ui")
    with Stack(folder, MortalLite(folder / "index.db"), more=with_fakes(folder)) as stack:
        store = S3Store(stack.s3.settings(), stack.bucket)
        for number in range(_IMAGES):
            store.upload(f"images/{number}.png", picture(number))
        yield stack


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with launched_chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        yield page


def asked(stack: Stack, path: str, body: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """An answer of Prefect's API."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{stack.ports['prefect']}/api/{path}",
        json.dumps(body or {}).encode(),
        {"Content-Type": "application/json", **make_headers(basic_auth=stack.password)},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  loopback
        return list(json.load(answer))


def finished_run(stack: Stack) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run of the flow `index` that has succeeded, and its artifact."""
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        for artifact in asked(stack, "artifacts/filter", {"sort": "CREATED_DESC"}):
            if artifact["type"] == "markdown" and artifact["key"].startswith("index-"):
                wanted = {"flow_runs": {"id": {"any_": [artifact["flow_run_id"]]}}}
                [run] = asked(stack, "flow_runs/filter", wanted)
                if run["state_type"] == "COMPLETED":
                    return run, artifact
        time.sleep(1.0)
    raise AssertionError("no run has ended with an artifact")


def log_in(page: Page, server: str, password: str) -> None:
    """Prefect's page asks for the password, once; a wrong one opens nothing."""
    page.goto(f"{server}/runs")
    field = page.locator("input[type=password]")
    field.wait_for()
    page.screenshot(path=SCREENSHOTS / "login.png")
    field.fill("searchanything:guess")
    field.press("Enter")
    page.wait_for_timeout(1000)
    assert field.is_visible()
    field.fill(password)
    field.press("Enter")
    field.wait_for(state="detached")


def test_the_run_and_its_artifact_are_seen(stack: Stack, page: Page) -> None:
    run, artifact = finished_run(stack)
    server = f"http://127.0.0.1:{stack.ports['prefect']}"

    log_in(page, server, stack.password)
    page.goto(f"{server}/runs")
    link = page.locator(f'a[href*="{run["id"]}"]').first  # several runs may be called the same
    link.wait_for()
    page.get_by_text("Completed").first.wait_for()
    page.screenshot(path=SCREENSHOTS / "runs.png")
    assert link.inner_text() == run["name"]

    link.click()
    page.wait_for_url(f"**/{run['id']}*", wait_until="commit")
    page.get_by_text("Artifacts", exact=True).last.click()
    page.get_by_text(artifact["key"]).first.wait_for()
    page.screenshot(path=SCREENSHOTS / "run.png")

    page.goto(f"{server}/artifacts/artifact/{artifact['id']}")
    page.get_by_role("cell", name="regions written").wait_for()
    page.screenshot(path=SCREENSHOTS / "artifact.png", full_page=True)
    assert (SCREENSHOTS / "artifact.png").stat().st_size > 10_000
