"""The program that compares a bucket with its index finds every way in which they can differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deploy.agreement import Holdings, compare

LISTING = {"a.jpg": "etag-a", "b.jpg": "etag-b"}


def image(key: str, **other: Any) -> dict[str, Any]:
    row = {"key": key, "etag": f"etag-{key[0]}", "generation": 7, "outcome": "indexed", "regions": 2}
    return row | {"image_width": 90, "image_height": 60} | other


def region(key: str, number: int, **other: Any) -> dict[str, Any]:
    row = {"key": key, "etag": f"etag-{key[0]}", "generation": 7, "region": number}
    return row | {"image_width": 90, "image_height": 60} | other


def agreeing() -> Holdings:
    return Holdings([image(key) for key in LISTING], [region(key, number) for key in LISTING for number in (0, 1)])


def test_agreement() -> None:
    assert compare(LISTING, agreeing()) == []
    empty = Holdings([image("a.jpg", regions=0, outcome="empty")], [])
    assert compare({"a.jpg": "etag-a"}, empty) == []


DAMAGES: dict[str, tuple[Callable[[Holdings], object], str]] = {
    "an image row is missing": (lambda held: held.images.pop(0), "lost"),
    "an old etag": (lambda held: held.images[0].update(etag="old"), "stale"),
    "an older image row": (lambda held: held.images.append(image("a.jpg", generation=6)), "doubled"),
    "the same image row twice": (lambda held: held.images.append(image("a.jpg")), "doubled"),
    "a failed attempt": (lambda held: held.images[0].update(outcome="failed"), "failed"),
    "a region is missing": (lambda held: held.regions.pop(1), "torn"),
    "a region twice": (lambda held: held.regions.append(region("a.jpg", 1)), "doubled"),
    "a region too many": (lambda held: held.regions.append(region("a.jpg", 2)), "torn"),
    "regions of other bytes": (lambda held: held.regions[0].update(image_width=91), "torn"),
    "regions of another etag": (lambda held: held.regions[0].update(etag="old"), "torn"),
    "regions of an older attempt": (lambda held: held.regions.append(region("a.jpg", 0, generation=6)), "garbage"),
    "regions of nothing": (lambda held: held.regions.append(region("c.jpg", 0)), "garbage"),
    "an image of nothing": (lambda held: held.images.append(image("c.jpg")), "orphaned"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_difference_is_found(name: str) -> None:
    damage, kind = DAMAGES[name]
    held = agreeing()
    damage(held)
    assert kind in {one.kind for one in compare(LISTING, held)}
