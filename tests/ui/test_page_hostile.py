"""Names, metadata, addresses and files of strangers on the page: each is read there as it is, and none is a part of it.

The pages here heed no content policy, which would stop scripts that came of a text: what is found is the page alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from urllib.parse import urlencode

import pytest
from fakes.pages import IMAGES, NestingSegmenter, browser, identity, keys
from fakes.serving import Served, listening, png_of
from fakes.standing import add_noise
from playwright.sync_api import Browser, Page, expect

from searchanything.core.serve_settings import ServeSettings

__all__ = ["browser"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]
TAG = '<img src=x onerror="window.ran=1">'
QUOTES = "\"'><svg onload=window.ran=1>"
LINK = "javascript:window.ran=1"
MARKUP = f"{TAG}.png"
NAMES = (
    MARKUP,
    f"{QUOTES}.png",
    LINK,
    "__proto__",
    "constructor",
    "${window.ran=1}{{7*7}}",
    "%3Cscript%3E&lt;b&gt;#?.png",
)
TEXTS = (TAG, QUOTES, LINK, "__proto__")
CAME_OF_IT = """() => [...document.querySelectorAll("*")].filter((one) =>
    [...one.attributes].some(({ name, value }) => name.startsWith("on")
        || /^(href|src|action)$/.test(name) && /^\\s*javascript:/i.test(value))
    || one.matches("img[src=x], script:not([src^='/page/'])"),
).map((one) => one.outerHTML)"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    """A server whose images have such names."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder, two, blue = tmp_path_factory.mktemp("hostile"), IMAGES["a/two.png"], IMAGES["b/blue.png"]
        served = Served.make(
            folder,
            monkeypatch,
            images={name: blue if place % 2 else two for place, name in enumerate(NAMES)},
            segmenter=NestingSegmenter(input_size=384),
            words=True,
            settings=ServeSettings(preload=False, webhooks="https://ops.example.org/hooks/"),
        )
        add_noise(served.client)
        with listening(served) as url:
            yield served, url


@pytest.fixture
def harmless(browser: Browser, hostile: tuple[Served, str]) -> Iterator[tuple[Page, Callable[[], None]]]:
    """A page, and what asserts that nothing of it came of a text; it is asked at the end, too."""
    context = browser.new_context(
        base_url=hostile[1], bypass_csp=True, permissions=["clipboard-read", "clipboard-write"]
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on(
        "request", lambda one: None if one.url.startswith((hostile[1], "blob:", "data:")) else wrong.append(one.url)
    )
    page.set_default_timeout(30_000)

    def check() -> None:
        assert page.evaluate(CAME_OF_IT) == []
        assert page.evaluate("() => [window.ran, ({}).ran]") == [None, None]
        assert wrong == []

    yield page, check
    check()
    context.close()


def test_what_is_looked_for_is_found_where_a_text_becomes_a_part(harmless: tuple[Page, Callable[[], None]]) -> None:
    page, check = harmless
    for text in (TAG, f"<a href='{LINK}'>", "<svg onload=window.ran=1>"):
        page.goto("/")
        page.evaluate("(text) => { document.getElementById('toast').innerHTML = text; }", text)
        with pytest.raises(AssertionError):
            check()
    page.goto("/")


def test_names_of_images_are_shown_as_they_are(
    harmless: tuple[Page, Callable[[], None]], hostile: tuple[Served, str]
) -> None:
    page, check = harmless
    page.goto("/")
    expect(page.locator(".image-name").filter(has_text=TAG)).to_have_count(1)
    assert set(NAMES) <= set(page.locator(".image-name").all_inner_texts())
    check()
    for name in NAMES:
        page.goto(f"/?image={identity(hostile, name)}&region=0")
        assert set(keys(page)) & set(NAMES) >= {name}
        expect(page.locator("#stage-name")).to_have_text(name)
        links = page.locator(".hit-link").evaluate_all("(all) => all.map((one) => one.getAttribute('href'))")
        assert links
        assert all(link.startswith("/?") for link in links)
        check()
    page.locator(".hit .mark-why").first.dispatch_event("click")
    expect(page.locator("#dialog .verdict")).to_be_visible()
    expect(page.locator("#dialog figcaption")).to_have_text(page.locator(".hit-name").first.inner_text())
    check()
    page.click("#dialog-close")
    page.click("#receipt")
    expect(page.locator("#toast")).to_contain_text("Receipt copied")
    assert NAMES[-1] in json.dumps(json.loads(page.evaluate("() => navigator.clipboard.readText()")))


def test_the_image_that_was_expected_is_named_as_it_is(
    harmless: tuple[Page, Callable[[], None]], hostile: tuple[Served, str]
) -> None:
    page, check = harmless
    page.goto(f"/?image={identity(hostile, MARKUP)}&region=0")
    keys(page)
    page.click("#missing")
    page.fill("#expected", TAG)
    expect(page.locator("#dialog .image-name")).to_have_text([MARKUP])
    check()
    page.click("#dialog .image-tile")
    expect(page.locator("#dialog figcaption")).to_have_text(MARKUP)


@pytest.mark.parametrize("text", TEXTS)
def test_a_standing_query_is_called_what_it_is(
    harmless: tuple[Page, Callable[[], None]], hostile: tuple[Served, str], text: str
) -> None:
    page, check = harmless
    page.goto(f"/?image={identity(hostile, MARKUP)}&region=0")
    keys(page)
    page.click("#keep")
    expect(page.locator("#standing-name")).to_have_value(f"region 0 of {MARKUP}")
    page.fill("#standing-name", text)
    page.click("dialog button.primary")
    expect(page.locator(".standing b").filter(has_text=text)).to_have_text([text])
    check()
    remove = page.locator(".standing li").filter(has_text=text).locator(".standing-state button")
    remove.click()
    expect(page.locator("#dialog-say")).to_contain_text(text)


@pytest.mark.parametrize("text", TEXTS)
def test_filters_are_shown_as_they_are(harmless: tuple[Page, Callable[[], None]], text: str) -> None:
    page, check = harmless
    page.goto("/?text=blue")
    keys(page)
    page.click("#filters-button")
    page.fill("#filter-meta", f"label={text}")
    page.press("#filter-meta", "Enter")
    expect(page.locator(".chip")).to_have_text([f"label={text} ✕"])
    shown = max(text.split('"'), key=len)  # the hint escapes quotes
    expect(page.locator("#notice")).to_contain_text(shown)
    check()
    page.fill("#filter-meta", f"{text}:=7")
    page.press("#filter-meta", "Enter")
    expect(page.locator(".chip")).to_have_count(2)
    page.fill("#filter-prefix", text)
    page.press("#filter-prefix", "Enter")
    expect(page.locator("#notice")).to_contain_text(shown)


def parameters(image: str) -> list[dict[str, str]]:
    """Every parameter of an address, with each text; those of a question beside a whole one."""
    alone = [
        {name: text} for name in ("image", "upload", "text") for text in (*TEXTS, "../standing", "..%2f..%2fdocs#?")
    ]
    names = ("region", "fg", "bg", "level", "box", "whole", "prefix", "size", "meta", "from", "to", "group")
    marks = ("like", "right", "wrong", "refined", "n", "__proto__")
    beside = [{"image": image, "region": "0", name: text} for name in (*names, *marks) for text in TEXTS]
    return alone + [one | {"meta": f"{one['meta']}={one['meta']}"} if "meta" in one else one for one in beside]


def test_no_parameter_of_an_address_is_a_part(
    harmless: tuple[Page, Callable[[], None]], hostile: tuple[Served, str]
) -> None:
    page, check = harmless
    for given in parameters(identity(hostile, MARKUP)):
        page.goto(f"/?{urlencode(given)}")
        expect(page.locator("#hits")).to_have_attribute("aria-busy", "false")
        page.wait_for_selector(".hit, #notice:visible, .image-tile, #start:visible")
        check()
        if "text" in given:
            expect(page.locator("#asked-title")).to_have_text(given["text"])
            expect(page.locator("#words-text")).to_have_value(given["text"])


def test_files_that_are_uploaded_are_named_as_they_are(harmless: tuple[Page, Callable[[], None]]) -> None:
    page, check = harmless
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.ran=1"><script>window.ran=1</script></svg>'
    for name, kind, data in (
        (f"{TAG}.svg", "image/svg+xml", drawing),
        (MARKUP, "image/png", png_of(IMAGES["a/red.png"])),
    ):
        page.goto("/")
        said: list[str] = []
        page.expose_binding(f"said{len(data)}", lambda _, text, said=said: said.append(text))
        page.evaluate(
            "(say) => new MutationObserver(() => window[say](document.getElementById('toast').textContent))"
            ".observe(document.getElementById('toast'), { childList: true })",
            f"said{len(data)}",
        )
        page.set_input_files("#upload", {"name": name, "mimeType": kind, "buffer": data})
        if kind == "image/png":
            page.wait_for_url("**/?upload=*")
        else:
            expect(page.locator("#toast")).to_contain_text("is not an image of a known format")
        assert f"Uploading {name}…" in said
        check()


@pytest.mark.parametrize(
    "path", ["/docs", "/openapi.json", f"/{TAG}", f"/page/{TAG}", f"/v1/images/{TAG}", f"/v1/images?limit={TAG}"]
)
def test_answers_opened_by_themselves_are_no_page_of_a_stranger(
    harmless: tuple[Page, Callable[[], None]], path: str
) -> None:
    page, _ = harmless
    answer = page.goto(path)
    assert answer is not None
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert ("text/html" in answer.headers["content-type"]) == (path == "/docs")
