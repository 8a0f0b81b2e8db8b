"""Makes the pictures of answers in `docs/serve.md`: `python docs/make_page_images.py`, with Debian's chromium.

`searchanything serve` over 120 generated scenes, with the bundled models: hits, words alone, marks, several regions,
and no good match.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import searchanything
from searchanything.client.client import Client
from searchanything.core.serve_settings import ServeSettings
from searchanything.core.types import Filter, Hit, RegionRef
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.serve.answers import GOOD, confidence_of
from searchanything.serve.app import make_app
from searchanything.serve.desk import Desk
from searchanything.serve.wire import image_id

SCENES, SEED = 120, 3
VIEW = {"width": 1280, "height": 860}
IMAGES = Path(__file__).parent / "images" / "serve"


@contextmanager
def serving(client: Client, folder: Path) -> Iterator[str]:
    """The address of a server of this client's index."""
    desk = Desk(client, ServeSettings(preload=False), folder=folder, ring=None)
    server = uvicorn.Server(uvicorn.Config(make_app(desk), port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def spelt(hit: Hit) -> str:
    return f"{image_id(hit.image)}:{hit.region}"


def addresses(client: Client, words: dict[str, str]) -> Iterator[tuple[str, str]]:
    """A picture's name and the question on it."""
    concepts = list(words.values())
    concept = max(sorted(set(concepts)), key=concepts.count)
    shown = client.query(text=concept, limit=8)
    right = next(hit for hit in shown if words_at(words, hit) == concept)
    asked = f"/?image={image_id(right.image)}&region={right.region}"
    yield "hits", asked
    yield "words", f"/?text={concept.replace(' ', '+')}"
    found = client.query(right, limit=9)
    good = [hit for hit in found if words_at(words, hit) == concept][:3]
    wrong = [hit for hit in found if words_at(words, hit) not in ("", concept)][:2]
    marks = "".join(f"&right={spelt(one)}" for one in good) + "".join(f"&wrong={spelt(one)}" for one in wrong)
    yield "refined", f"{asked}{marks}&refined=1"
    yield "like", "/?" + "&".join(f"like={spelt(one)}" for one in good)
    yield "nomatch", unmatched(client)


def words_at(words: dict[str, str], hit: Hit) -> str:
    """The concept that a hit shows; empty for none."""
    x1, y1, x2, y2 = hit.box_xyxy
    middle = (x1 + x2) / 2, (y1 + y2) / 2
    for place, concept in words.items():
        key, _, box = place.partition("@")
        left, top, right, bottom = map(float, box.split(","))
        if key == hit.image.key and left <= middle[0] < right and top <= middle[1] < bottom:
            return concept
    return ""


def unmatched(client: Client) -> str:
    """The first region that has no good match among the scenes of one prefix."""
    for row in client.images()[0]:
        for region in range(row.regions):
            asked = RegionRef(row.image, region)
            found = client.query(asked, filter=Filter(key_prefix="scene-011", exclude=(row.image,)), limit=24)
            words = [confidence_of(hit.distance_bits, 256, hit.false_match).word for hit in found]
            if words and not set(words) & set(GOOD) and not row.image.key.startswith("scene-011"):
                return f"/?image={image_id(row.image)}&region={region}&prefix=scene-011"
    raise LookupError("every region has a good match")


def photograph(page: Page, name: str, address: str) -> None:
    """The page at an address, once its pictures are there."""
    page.goto(address)
    page.wait_for_selector(".hit img.there")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    with tempfile.TemporaryDirectory() as place:
        shot = Path(place) / "shot.png"
        page.screenshot(path=shot)
        Image.open(shot).convert("RGB").save(IMAGES / f"{name}.webp", quality=80, method=6)


def main() -> None:
    """Index scenes, serve them, ask, photograph."""
    with tempfile.TemporaryDirectory() as name, searchanything.connect("memory://", preset="pico") as client:
        scenes, words = Path(name) / "scenes", {}
        scenes.mkdir()
        for file, scene in generate_demo_scenes(SCENES, seed=SEED):
            Image.fromarray(scene.image).save(scenes / file, quality=92)
            for one in scene.objects:
                ys, xs = one.mask.nonzero()
                box = f"{xs.min()},{ys.min()},{xs.max() + 1},{ys.max() + 1}"
                words[f"{file}@{box}"] = one.concept.replace("_", " ")
        client.index(scenes, add_words=True)
        with serving(client, Path(name) / "serve") as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_context(viewport=VIEW, base_url=url).new_page()
            page.set_default_timeout(120_000)
            for picture, address in addresses(client, words):
                photograph(page, picture, address)
            browser.close()


if __name__ == "__main__":
    main()
