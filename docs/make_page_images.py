"""Makes the pictures of the page in `docs/serve.md`: `python docs/make_page_images.py [--keep FOLDER] [NAME …]`.

A server over 60 generated scenes, with the bundled models and words codes, shown in Debian's chromium. The scenes say
what is in them, so each picture's question is chosen by what it has to show. A FOLDER keeps the index for the next run.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from make_search_images import Clicks, drawn_scenes, shown_by
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import searchanything
from searchanything.answers.hit_confidence import GOOD
from searchanything.client.client import Client
from searchanything.client.remote_names import image_id
from searchanything.core.serve_settings import ServeSettings
from searchanything.core.types import Filter, Hit, ImageRef
from searchanything.serve.app import make_app
from searchanything.serve.desk import Desk
from searchanything.serve.run import configured

IMAGES = Path(__file__).parent / "images" / "serve"
SCENES, LATER = 60, 40
ALL_SHOWN = """() => [...document.images].every((one) => {
    const { top, bottom, width } = one.getBoundingClientRect();
    return !width || bottom < 0 || top > innerHeight || (one.complete && one.naturalWidth > 0);
})"""  # an image that comes into view is fetched then
SIZE, PHONE = (1280, 860), (400, 780)
WAIT_MS = 60_000


@contextmanager
def listening(client: Client, folder: Path) -> Iterator[str]:
    """The server on a port of this machine; its address."""
    settings = ServeSettings(preload=False, port=0)
    desk = Desk(client, settings, folder=folder, ring=None)
    server = uvicorn.Server(configured(make_app(desk), settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing in a scene: its concept, its scene, and a point and the indexed region on it."""

    concept: str
    image: ImageRef
    point: tuple[float, float]
    region: int

    @property
    def address(self) -> str:
        return f"/?image={image_id(self.image)}&region={self.region}"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Takes each picture. Names are those of the files."""

    browser: Browser
    url: str
    client: Client
    clicks: Clicks

    def things(self) -> Iterator[Thing]:
        """The largest of each concept whose region is indexed, the most common concept first."""
        for concept in sorted(self.clicks, key=lambda one: -len(self.clicks[one])):
            for area, file, (x, y) in self.clicks[concept][:3]:
                image = self.client.locate(file)
                holding = [
                    row
                    for row in self.client.regions(image)
                    if row.box_xyxy[0] <= x < row.box_xyxy[2] and row.box_xyxy[1] <= y < row.box_xyxy[3]
                    and 0.6 * area < row.area_px < 1.4 * area
                ]  # fmt: skip
                if holding:
                    yield Thing(concept, image, (x, y), holding[0].region)
                    break

    def take(
        self, name: str, act: Callable[[Page], object], *, size: tuple[int, int] = SIZE, dark: bool = False
    ) -> None:
        """One picture, once everything on the page has come."""
        scheme = "dark" if dark else "light"
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]}, base_url=self.url, color_scheme=scheme
        )
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        act(page)
        page.wait_for_load_state("networkidle")
        page.wait_for_function(ALL_SHOWN)
        page.wait_for_timeout(400)
        shown = Image.open(io.BytesIO(page.screenshot()))
        shown.convert("RGB").save(IMAGES / f"{name}.webp", quality=80, method=6)
        context.close()

    def not_there(self) -> tuple[Thing, str]:
        """A thing, and a beginning of names below which nothing is like it. The first such question."""
        for thing in self.things():
            for prefix in (f"scene-{tens:03}" for tens in range(SCENES // 10)):
                nowhere = all(not file.name.startswith(prefix) for _, file, _ in self.clicks[thing.concept])
                found = self.client.query(self._row(thing), filter=Filter(key_prefix=prefix)) if nowhere else None
                if found and not any(good is not None and good.word in GOOD for good in found.confidences):
                    return thing, prefix
        raise RuntimeError("every question has a good match everywhere")

    def well_found(self) -> Thing:
        """The thing of which most is found among its first hits."""
        return max(list(self.things())[:12], key=lambda thing: len(self._right(thing)))

    def missed(self, concept: str) -> ImageRef:
        """An image that is not on the page of answers to the concept's name; one that holds the thing, if any."""
        shown = {hit.image for hit in self.client.query(text=concept.replace("-", " "), limit=24)}
        holding = [self.client.locate(file) for _, file, _ in self.clicks[concept]]
        return next(
            image for image in [*holding, *(row.image for row in self.client.images()[0])] if image not in shown
        )

    def _right(self, thing: Thing) -> list[Hit]:
        return [
            hit for hit in self.client.query(self._row(thing), limit=9) if thing.concept in shown_by(hit, self.clicks)
        ]

    def _row(self, thing: Thing) -> searchanything.RegionRef:
        return searchanything.RegionRef(thing.image, thing.region)

    def named(self) -> str:
        """The name of a concept that words find best."""
        concepts = [thing.concept for thing in self.things()][:20]
        return max(concepts, key=lambda one: self._found_by(one))

    def _found_by(self, concept: str) -> int:
        found = self.client.query(text=concept.replace("-", " "), limit=10)
        return sum(concept in shown_by(hit, self.clicks) for hit in found)


def ask(page: Page, address: str) -> None:
    """Open an address and wait for its hits."""
    page.goto(address)
    page.wait_for_selector(".hit")


def point(page: Page, thing: Thing, size: tuple[int, int], *, click: bool) -> None:
    """Move to the thing on the opened image, and click there if asked."""
    page.goto(f"/?image={image_id(thing.image)}")
    page.wait_for_selector("#region-list li", state="attached")
    frame = page.locator("#canvas").bounding_box()
    if frame is None:
        raise RuntimeError("the canvas is not shown")
    x, y = (
        start + place / side * length
        for start, place, side, length in (
            (frame["x"], thing.point[0], size[0], frame["width"]),
            (frame["y"], thing.point[1], size[1], frame["height"]),
        )
    )
    page.mouse.move(x, y)
    if click:
        page.mouse.click(x, y)
        page.wait_for_selector(".hit")
        page.locator(".hit").nth(2).hover()


def mark(page: Page, right: list[int], wrong: list[int], *, button: str) -> None:
    """Mark hits, and go on from the marks."""
    for kind, places in (("right", right), ("wrong", wrong)):
        for place in places:
            page.locator(".hit").nth(place).hover()
            page.locator(".hit").nth(place).locator(f".mark-{kind}").click()
    with page.expect_response(lambda response: response.url.endswith(("/v1/refine", "/v1/query"))):
        page.click(button)
    page.wait_for_selector(".hit")


def why_not(page: Page, address: str, missing: ImageRef) -> None:
    """Ask why an image is not among the hits."""
    ask(page, address)
    page.click("#missing")
    page.fill("#expected", missing.key)
    page.locator(f'dialog .image-tile[title="{missing.key}"]').click()
    page.wait_for_selector("dialog .verdict")


def standing(pictures: Pictures, later: Path) -> None:
    """What is new for two things that are kept, after further scenes; as it was before, at the end."""
    kept = sorted(pictures.things(), key=lambda thing: -len(pictures._right(thing)))[:2]  # noqa: SLF001 - asked here
    later.mkdir()

    def act(page: Page) -> None:
        page.goto("/")
        page.click("#standing-button")
        page.wait_for_selector(".news .outline")

    for thing in kept:
        pictures.client.standing.add(thing.concept, pictures._row(thing), max_false_match=1e-3)  # noqa: SLF001
    try:
        drawn_scenes(later, SCENES + LATER)
        for file in sorted(later.iterdir())[:-LATER]:
            file.unlink()  # a scene of before
        pictures.client.index(later)
        pictures.take("standing", act)
    finally:
        for thing in kept:
            pictures.client.standing.remove(thing.concept)
        pictures.client.delete(later)
        shutil.rmtree(later)


def every(pictures: Pictures, folder: Path) -> dict[str, Callable[[], None]]:
    """How each picture is taken."""
    thing = pictures.well_found()
    image = pictures.client.image(thing.image)
    size = image.image_width, image.image_height
    take = pictures.take

    def browse(page: Page) -> None:
        page.goto("/")
        page.wait_for_selector(".image-tile")

    def filters(page: Page) -> None:
        ask(page, f"{thing.address}&size=medium")
        if page.locator("#filters").is_hidden():
            page.click("#filters-button")

    def no_match(page: Page) -> None:
        other, prefix = pictures.not_there()
        ask(page, f"{other.address}&prefix={prefix}")

    def refined(page: Page) -> None:
        ask(page, thing.address)
        hits = pictures.client.query(pictures._row(thing), limit=24)  # noqa: SLF001 - the same question
        is_right = [thing.concept in shown_by(hit, pictures.clicks) for hit in hits]
        right = [n for n, good in enumerate(is_right) if good][1:4]
        wrong = [n for n, good in enumerate(is_right) if not good][:3]
        mark(page, right, wrong, button="#refine-button")

    def like(page: Page) -> None:
        ask(page, thing.address)
        mark(page, [0, 1], [], button="#refine-like")

    concept = pictures.named()
    by_words = f"/?text={concept.replace('-', '+')}"

    return {
        "browse": lambda: take("browse", browse),
        "hover": lambda: take("hover", lambda page: point(page, thing, size, click=False)),
        "hits": lambda: take("hits", lambda page: point(page, thing, size, click=True)),
        "dark": lambda: take("dark", lambda page: point(page, thing, size, click=True), dark=True),
        "phone": lambda: take("phone", lambda page: ask(page, thing.address), size=PHONE),
        "filters": lambda: take("filters", filters),
        "nomatch": lambda: take("nomatch", no_match),
        "words": lambda: take("words", lambda page: ask(page, by_words)),
        "refined": lambda: take("refined", refined),
        "like": lambda: take("like", like),
        "standing": lambda: standing(pictures, folder / "later"),
        "whynot": lambda: take("whynot", lambda page: why_not(page, by_words, pictures.missed(concept))),
    }


def main() -> None:
    """Index scenes, serve them, take the pictures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="where scenes and index lie, and stay")
    parser.add_argument("names", metavar="NAME", nargs="*", help="of the pictures; default: all")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        take_all(asked.keep or Path(name), asked.names)


def take_all(folder: Path, names: Sequence[str]) -> None:
    """Index scenes in a folder, and take pictures of them."""
    scenes = folder / "scenes"
    scenes.mkdir(parents=True, exist_ok=True)
    with searchanything.connect(str(folder / "index.db"), preset="pico") as client, sync_playwright() as playwright:
        clicks = drawn_scenes(scenes, SCENES)
        client.index(scenes, add_words=True)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with listening(client, folder / "serve") as url:
            pictures = every(Pictures(browser, url, client, clicks), folder)
            for one in names or pictures:
                pictures[one]()
        browser.close()


if __name__ == "__main__":
    main()
