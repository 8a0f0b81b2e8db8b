"""How a key alone is looked up on a server: over all pages of what begins as it does."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from searchanything.client.calls import Call
from searchanything.client.remote_names import image_id, located
from searchanything.core.errors import ObjectNotFoundError, UsageError
from searchanything.core.types import ImageRef


def server(*pages: list[tuple[str, str]]) -> Any:
    """Answers a listing page by page, and knows no image by its name."""

    def send(call: Call[Any]) -> dict[str, Any]:
        address = urlsplit(call.path)
        if address.path != "/v1/images":
            raise ObjectNotFoundError("not there")
        asked = parse_qs(address.query)
        number = int(asked.get("after", ["0"])[0])
        assert asked["prefix"] == ["7.jpg"]
        images = [{"bucket": bucket, "key": key} for bucket, key in pages[number]]
        return {"images": images, "next": str(number + 1) if number + 1 < len(pages) else None}

    return send


NEAR = [("a", f"7.jpg-{number}") for number in range(3)]


@pytest.mark.parametrize("pages", [[[("b", "7.jpg")]], [NEAR, [("b", "7.jpg")]], [NEAR, NEAR, [("b", "7.jpg")], NEAR]])
def test_a_key_is_found_on_whatever_page(pages: list[list[tuple[str, str]]]) -> None:
    assert located("7.jpg", server(*pages)) == {"bucket": "b", "key": "7.jpg"}


def test_a_key_of_two_buckets_is_said_to_be_although_they_are_on_two_pages() -> None:
    with pytest.raises(UsageError, match="2 buckets"):
        located("7.jpg", server([("a", "7.jpg"), *NEAR], [("b", "7.jpg")]))


def test_a_key_that_nobody_has_gets_the_name_that_it_would_have() -> None:
    assert located("7.jpg", server(NEAR, NEAR))["key"] == "7.jpg"


def test_a_bucket_and_key_without_the_scheme() -> None:
    def send(call: Call[Any]) -> dict[str, Any]:
        if call.path == f"/v1/images/{image_id(ImageRef('holiday', 'sea/7.jpg'))}":
            return {}
        if call.path.startswith("/v1/images?"):
            return {"images": [], "next": None}
        raise ObjectNotFoundError("not there")

    assert located("holiday/sea/7.jpg", send) == {"bucket": "holiday", "key": "sea/7.jpg"}
