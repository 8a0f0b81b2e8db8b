"""Include and exclude patterns: what they name, and how long lists of them are looked up."""

from __future__ import annotations

import copy
import re
from fnmatch import translate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.images import scopes
from searchanything.images.scopes import Patterns, Scope

PATTERNS = st.lists(st.text("ab/*?[]!\n", max_size=4), min_size=1, max_size=4)


@given(PATTERNS, st.text("ab/*?[]!\n", max_size=4))
def test_patterns_name_what_they_name_one_by_one(patterns: list[str], key: str) -> None:
    named = any(re.match(translate(one), key) for one in patterns)
    assert Patterns(exclude=patterns).excludes(key) == named
    assert Patterns(include=patterns).includes(key) == named
    ends = any(re.match(translate(one), key) for one in patterns if not one.endswith("*"))
    assert Patterns(include=patterns).names(key) == ends


def test_names_and_beginnings_of_a_long_list_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one expression for all, each key was compared with each of them, up to 6 ms of ten thousand."""
    compared: list[str] = []
    monkeypatch.setattr(scopes, "translate", lambda one: compared.append(one) or translate(one))
    names, folders = [f"a/{number}.jpg" for number in range(10_000)], [f"b/{number}/*" for number in range(10_000)]
    patterns = Patterns(exclude=[*names, *folders, "*.tmp"])
    assert compared == ["*.tmp"]
    scope = Scope(patterns=copy.deepcopy(patterns))
    keys = ("a/7.jpg", "a/10000.jpg", "b/9/x.jpg", "b/x.jpg", "c.tmp", "c.jpg")
    assert [key for key in keys if scope.wants(key)] == ["a/10000.jpg", "b/x.jpg", "c.jpg"]
    assert not scope.concerns("b/9/")
    assert patterns == Patterns(exclude=[*names, *folders, "*.tmp"])
