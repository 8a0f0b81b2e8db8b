"""What is given is checked where it is used: whole numbers, lists, places."""

from __future__ import annotations

import numpy as np
import pytest

from searchanything.core.arguments import check_places, several, whole_number_of
from searchanything.core.errors import FilterError, UsageError


@pytest.mark.parametrize("given", [True, 2.0, "2", None, np.float64(2), [2]])
def test_what_is_no_whole_number(given: object) -> None:
    with pytest.raises(UsageError, match="most: expected a whole number of 1 or more, got "):
        whole_number_of(given, "most", least=1)


def test_numpys_whole_numbers_are_some() -> None:
    found = whole_number_of(np.int64(2), "most", least=2)
    assert (found, type(found)) == (2, int)
    with pytest.raises(UsageError, match="most: expected a whole number of 3 or more, got "):
        whole_number_of(np.int64(2), "most", least=3)


def test_a_list_is_whatever_can_be_gone_through_but_for_texts() -> None:
    assert several((one for one in "ab"), str, "keys", "keys") == several(["a", "b"], str, "keys", "keys") == ("a", "b")
    for text in ("ab", b"ab"):
        with pytest.raises(UsageError, match=r"keys: expected a list of keys, got b?'ab'"):
            several(text, str | bytes, "keys", "keys")


@pytest.mark.parametrize("places", ["ab", None, ["ab"], [("a",)], [("a", None)], [("a", "b", "c")], {("a", "b")}])
def test_what_are_no_places(places: object) -> None:
    check_places([("a", ""), ["b", "c/"]], "within")
    with pytest.raises(FilterError, match="within: expected pairs of a bucket and a key prefix, got "):
        check_places(places, "within", error=FilterError)
