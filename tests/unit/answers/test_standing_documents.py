"""What is kept and said of standing queries, as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from searchanything.answers.standing_answers import (
    NewMatches,
    StandingDelivery,
    StandingMatches,
    StandingQuery,
    StandingStatus,
    Taken,
    checked_name,
    labels_of,
    match_digest,
)
from searchanything.core.documents import filter_document, hit_document
from searchanything.core.errors import UsageError
from searchanything.core.types import Filter, Hit, ImageRef, MaskRLE
from searchanything.search.new_matches import NewMatch

WORDS: Final = StandingQuery("a" * 16, "red", "words", 1e-4, 5, {"kind": "words", "text": "a red thing"})
REGION: Final = StandingQuery(
    "b" * 16,
    "a mug",
    "regions",
    1.0,
    2**63 - 1,
    {"kind": "box", "box_xyxy": [1.0, 2.0, 3.0, 4.0]},
    image="s3://b/k.png",
    mask=MaskRLE((120, 160), "0?Y300]1cN000000000000000h^a0"),
    filter=Filter(bucket="b", metadata={"city": "Ulm"}),
    webhook="https://host:8443/services/sEcReT?token=x",
    new_from_ms=7,
    known={"0" * 16: 3},
    known_bits={"f": 40},
    places=(("b", "k"), ("/folder", "")),
    added_by="shop",
)
IMAGE: Final = StandingQuery("c" * 16, "red", "images", 0.5, 0, {"kind": "image"})


@pytest.mark.parametrize("query", [WORDS, REGION, IMAGE], ids=lambda one: one.kind)
def test_what_is_kept_is_read_as_it_was(query: StandingQuery) -> None:
    assert StandingQuery.from_json(json.loads(json.dumps(query.to_json()))) == query


def test_words_alone_have_a_text() -> None:
    assert [one.text for one in (WORDS, REGION, IMAGE)] == ["a red thing", None, None]


def test_a_list_holds_no_secret_and_says_how_far_each_has_come() -> None:
    assert StandingStatus(REGION, 11, "why", 13).to_dict() == {
        "id": "b" * 16,
        "name": "a mug",
        "kind": "regions",
        "max_false_match": 1.0,
        "created_at_ms": 2**63 - 1,
        "prompt": {"kind": "box", "box_xyxy": [1.0, 2.0, 3.0, 4.0]},
        "image": "s3://b/k.png",
        "filter": filter_document(Filter(bucket="b", metadata={"city": "Ulm"})),
        "webhook": "https://host:8443/…",
        "places": [["b", "k"], ["/folder", ""]],
        "added_by": "shop",
        "looked_until_ms": 11,
        "error": "why",
        "not_before_ms": 13,
    }
    assert StandingStatus(WORDS, 11).to_dict().items() >= {"webhook": None, "error": "", "not_before_ms": 0}.items()
    assert "sEcReT" not in repr(REGION)


def match(key: str, *, etag: str = "e", first_at_ms: int = 1) -> NewMatch:
    hit = Hit(
        image=ImageRef("b", key), etag=etag, generation=3, metadata={}, region=0, box_xyxy=(0, 0, 5, 5), mask=None,
        area_px=25, score=0.5, image_width=9, image_height=9, distance_bits=4,
    )  # fmt: skip
    return NewMatch(hit, first_at_ms)


def test_a_match_is_known_by_its_image_and_content() -> None:
    others = [match("l"), match("k", etag="f"), match("", etag="e")]
    assert match_digest(match("k", first_at_ms=9)) == match_digest(match("k"))
    assert len({match_digest(one) for one in [match("k"), *others]}) == 4
    assert len(match_digest(match("k"))) == 16


def test_answers_as_documents() -> None:
    one = StandingMatches(REGION, (match("k", first_at_ms=9),))
    document = {
        "query": "a mug",
        "query_id": "b" * 16,
        "matches": [
            {"match_id": match_digest(match("k")), **hit_document(match("k").hit), "first_indexed_at_ms": 9},
        ],
    }
    assert one.to_dict() == document
    assert len(one.id) == 32
    found = NewMatches((one,), {"red": "why"}, {"b" * 16: Taken(1, 2, {})}, complete=False)
    assert found.to_dict() == {"matches": [document], "failed": {"red": "why"}, "complete": False}
    assert NewMatches().to_dict() == {"matches": [], "failed": {}, "complete": True}
    assert StandingDelivery({"a mug": 2}, {"red": "why"}).to_dict() == {"sent": {"a mug": 2}, "failed": {"red": "why"}}


def test_where_queries_share_a_name_reports_have_their_ids() -> None:
    assert labels_of(iter([WORDS, REGION, IMAGE])) == {"a" * 16: "a" * 16, "b" * 16: "a mug", "c" * 16: "c" * 16}


@pytest.mark.parametrize(
    ("query", "change"),
    [
        (IMAGE, {"max_false_match": 1.0000001}),
        (IMAGE, {"max_false_match": 0}),
        (IMAGE, {"kind": "other"}),
        (IMAGE, {"created_at_ms": True}),
        (IMAGE, {"new_from_ms": -1}),
        (IMAGE, {"known": {"0" * 16: 2**63}}),
        (IMAGE, {"known_bits": {"f": "40"}}),
        (IMAGE, {"mask": {"size": [120, 160], "counts": "0?Y300]1cN000000000000000h^a0"}}),
        (REGION, {"mask": None}),
        (WORDS, {"prompt": {"kind": "words", "text": ["red"]}}),
        (IMAGE, {"id": "C" * 16}),
        (IMAGE, {"added_by": 5}),
        (IMAGE, {"image": 5}),
    ],
)
def test_what_no_query_has_is_not_read(query: StandingQuery, change: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="no query has the values of"):
        StandingQuery.from_json(query.to_json() | change)


@pytest.mark.parametrize(
    ("query", "change", "message"),
    [
        (IMAGE, {"name": "a\nb"}, "^name: expected"),
        (IMAGE, {"webhook": "file:///etc/passwd"}, "^webhook: expected"),
        (REGION, {"mask": {"size": [120, 160], "counts": "0"}}, "mask"),
    ],
)
def test_values_that_nobody_could_have_given_are_not_read(
    query: StandingQuery, change: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        StandingQuery.from_json(query.to_json() | change)


@pytest.mark.parametrize("name", ["x", "x" * 100, "ä b", " x"])
def test_names_of_letters_that_can_be_seen(name: str) -> None:
    assert checked_name(name) == name
    assert StandingQuery.from_json(replace(IMAGE, name=name).to_json()).name == name


@pytest.mark.parametrize("name", ["", " ", "\u3000", "x" * 101, "a\tb", "\u202e", 5, None])
def test_names_that_cannot_be_seen(name: object) -> None:
    with pytest.raises(UsageError, match=r"^name"):
        checked_name(name)
