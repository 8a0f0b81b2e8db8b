"""Patterns and names with commas between them, as settings from the environment have them."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from searchanything.core.pattern_lists import PatternList
from searchanything.core.settings import Settings


@pytest.mark.parametrize(
    ("given", "patterns"),
    [
        ("*.jpg", ("*.jpg",)),
        (" *.jpg ,2024/* x/*,", ("*.jpg", "2024/* x/*")),
        (",, ,", ()),
        ("", ()),
        (["a, b", " c "], ("a, b", " c ")),
        (("a",), ("a",)),
    ],
)
def test_a_text_is_split_at_its_commas_and_a_list_is_as_it_is(given: object, patterns: tuple[str, ...]) -> None:
    assert TypeAdapter(PatternList).validate_python(given) == patterns


@pytest.mark.parametrize("given", [3, {"a": "b"}, [3], None])
def test_what_holds_no_patterns_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(PatternList).validate_python(given)


def test_the_environment_names_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHANYTHING_INGEST__INCLUDE", "*.jpg, 2024/*")
    assert Settings(_env_file=None).ingest.include == ("*.jpg", "2024/*")
