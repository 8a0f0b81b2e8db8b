"""Makes pictures of `docs/search.md` and `docs/refining.md`: `python docs/make_search_images.py`.

Questions about 120 generated scenes, with the bundled models: two orders, nothing found, marks, two things, duplicates.
`docs/images/calibration.png` is made by `benchmarks/calibrating.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from PIL import Image

import searchanything
from searchanything.answers.combined import CombinedResults
from searchanything.answers.results import SearchResults
from searchanything.client.client import Client
from searchanything.core.errors import UsageError
from searchanything.core.types import Hit
from searchanything.demo.questions import innermost_point
from searchanything.demo.scenes import generate_demo_scenes

SCENES, SEED = 120, 3
PAIRS = 20  # of concepts that are tried, those first that most images show together
WIDEST_PX = 1000
IMAGES = Path(__file__).parent / "images"
Clicks = dict[str, list[tuple[int, Path, tuple[float, float]]]]


def drawn_scenes(folder: Path, count: int = SCENES) -> Clicks:
    """Scenes in a folder, some of them twice, and by concept where its largest objects are."""
    clicks: Clicks = {}
    for number, (file, scene) in enumerate(generate_demo_scenes(count, seed=SEED)):
        Image.fromarray(scene.image).save(folder / file, quality=92)
        if number % 40 == 0:
            Image.fromarray(scene.image).save(folder / f"copy-of-{file}", quality=70)
        for one in scene.objects:
            found = int(one.mask.sum()), folder / file, innermost_point(one.mask)
            clicks.setdefault(one.concept, []).append(found)
    return {concept: sorted(found, reverse=True) for concept, found in clicks.items()}


def save(name: str, write: Callable[[Path], None]) -> None:
    """A contact sheet as a small picture."""
    with tempfile.TemporaryDirectory() as place:
        sheet = Path(place) / "sheet.png"
        write(sheet)
        picture = Image.open(sheet)
        picture.thumbnail((WIDEST_PX, WIDEST_PX), Image.Resampling.LANCZOS)
        picture.save(IMAGES / name, quality=80, method=6)


def ask(client: Client, clicks: Clicks) -> None:
    """One picture a question."""
    common = sorted(clicks, key=lambda concept: -len(clicks[concept]))
    _, file, point = clicks[common[0]][0]
    answer = client.query(file, point, limit=8)  # with the query three full rows
    right = [hit for hit in answer if common[0] in shown_by(hit, clicks)]
    wrong = [hit for hit in answer if hit not in right]
    save("marks-before.webp", answer.save)
    save("marks-after.webp", answer.refine(right[:5], wrong[:5]).save)
    save("combined.webp", two_things(client, clicks).save)
    save("duplicates.webp", client.duplicates(whole_images=True).save)
    save("nothing.webp", not_there(client, clicks).save)


def two_things(client: Client, clicks: Clicks) -> CombinedResults:
    """For two concepts, each pointed at on an image without the other: the answer that has most images with both."""
    places = {concept: {path.name for _, path, _ in found} for concept, found in clicks.items()}
    both = {pair: len(places[pair[0]] & places[pair[1]]) for pair in combinations(sorted(clicks), 2)}
    answers = []
    for pair in sorted(both, key=lambda one: (-both[one], one))[:PAIRS]:
        shared = places[pair[0]] & places[pair[1]]
        alone = [[(path, at) for _, path, at in clicks[one] if path.name not in shared] for one in pair]
        if not all(alone):
            continue
        try:
            found = client.combine(all_of=[one[0] for one in alone], limit=len(pair) + 1)
        except UsageError:  # no mask lies there
            continue
        right = sum(hit.image.key.removeprefix("copy-of-") in shared for hit in found)
        answers.append((right, found))
    return max(answers, key=lambda one: one[0])[1]


def shown_by(hit: Hit, clicks: Clicks) -> set[str]:
    """The concepts whose innermost point lies in a hit's box."""
    x1, y1, x2, y2 = hit.box_xyxy
    name = hit.image.key.removeprefix("copy-of-")
    return {
        concept
        for concept, found in clicks.items()
        for _, path, (x, y) in found
        if path.name == name and x1 <= x < x2 and y1 <= y < y2
    }


def two_orders(client: Client, clicks: Clicks) -> None:
    """The question that gains most from real values in either order."""
    gains = []
    for concept in sorted(clicks, key=lambda one: -len(clicks[one])):
        _, file, point = clicks[concept][0]
        orders = [client.query(file, point, limit=8, rescore=depth) for depth in (0, 100)]
        by_bits, by_values = (sum(concept in shown_by(hit, clicks) for hit in order) for order in orders)
        gains.append((by_values - by_bits, orders))
    _, orders = max(gains, key=lambda one: one[0])
    for name, order in zip(("order-bits.webp", "order-values.webp"), orders, strict=True):
        save(name, order.save)


def not_there(client: Client, clicks: Clicks) -> SearchResults:
    """The first answer "no good match" to a thing whose images are all left out of the search."""
    for concept in sorted(clicks, key=lambda one: -clicks[one][0][0]):
        _, file, point = clicks[concept][0]
        names = {path.name for _, path, _ in clicks[concept]}
        holding = [path for name in names for path in (file.parent / name, file.parent / f"copy-of-{name}")]
        nowhere = searchanything.Filter(exclude=tuple(client.locate(path) for path in holding))
        answer = client.query(file, point, filter=nowhere, max_false_match=1e-4)
        if answer.verdict:
            break
    return answer


def main() -> None:
    """Index scenes, ask, save."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, searchanything.connect("memory://", preset="pico") as client:
        clicks = drawn_scenes(Path(name))
        client.index(name)
        two_orders(client, clicks)
        ask(client, clicks)


if __name__ == "__main__":
    main()
