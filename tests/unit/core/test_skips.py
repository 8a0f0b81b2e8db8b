"""What a run skipped, against sums over a list of keys: counts, first examples, and how names end."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.skips import OTHER_SUFFIX, SkipCounts, Skipped, suffix_of, sum_skips

KEYS = st.builds("{}{}".format, st.sampled_from("abcde"), st.sampled_from(["", ".txt", ".TXT", ".xml", ".v2"]))
SKIPS = st.lists(st.tuples(KEYS, st.sampled_from(["is no image", "is empty", "was left out"])), max_size=20)


def counted_skips(skips: list[tuple[str, str]]) -> tuple[Skipped, ...]:
    counts = SkipCounts()
    for key, reason in skips:
        counts.add(key, reason)
    return counts.groups()


def suffixes_of(keys: list[str]) -> Counter[str]:
    return Counter(key[1:].lower() for key in keys)


@given(SKIPS)
def test_skips_are_counted_by_reason(skips: list[tuple[str, str]]) -> None:
    groups = counted_skips(skips)
    keys = {reason: [key for key, of in skips if of == reason] for _, reason in skips}
    assert [one.reason for one in groups] == sorted(keys, key=lambda reason: (-len(keys[reason]), reason))
    for one in groups:
        assert (one.count, one.examples) == (len(keys[one.reason]), tuple(keys[one.reason][:3]))
        assert dict(one.suffixes) == suffixes_of(keys[one.reason])
        assert list(one.suffixes) == sorted(one.suffixes, key=lambda pair: (-pair[1], pair[0]))
        shown = json.loads(json.dumps(one.to_dict()))
        assert shown == {
            "reason": one.reason,
            "count": one.count,
            "examples": keys[one.reason][:3],
            "suffixes": suffixes_of(keys[one.reason]),
        }
        more = ", …" if one.count > 3 else ""
        assert str(one) == f"{one.count} {one.reason} ({', '.join(keys[one.reason][:3])}{more})"
    assert hash(groups) == hash(counted_skips(skips))


@given(st.lists(SKIPS, max_size=3))
def test_the_sum_of_runs_is_one_run_s(runs: list[list[tuple[str, str]]]) -> None:
    together = counted_skips([one for run in runs for one in run])
    found = sum_skips(*map(counted_skips, runs))
    assert [(one.reason, one.count, one.suffixes) for one in found] == [
        (one.reason, one.count, one.suffixes) for one in together
    ]
    for one in found:
        keys = dict.fromkeys(key for run in runs for key, reason in run if reason == one.reason)
        assert len(one.examples) == len(set(one.examples)) <= 3
        assert set(one.examples) <= keys.keys()


def test_twenty_suffixes_are_distinguished_and_the_others_counted_together() -> None:
    numbers = [*range(25), 3, 24]
    [group] = counted_skips([(f"a.x{number}", "is no image") for number in numbers])
    assert dict(group.suffixes) == {**{f".x{number}": 1 + (number == 3) for number in range(20)}, OTHER_SUFFIX: 6}
    assert group.suffixes[0] == (OTHER_SUFFIX, 6)


@pytest.mark.parametrize(
    ("key", "suffix"),
    [
        ("a/b.TXT", ".txt"),
        ("a.tar.gz", ".gz"),
        ("photo.jpg_l", ".jpg_l"),
        ("a.b/c", ""),
        ("a/.hidden", ""),
        ("a..txt", ""),
        ("a.", ""),
        ("report.of may", ""),
        ("a.12345678", ".12345678"),
        ("a.123456789", ""),
        ("", ""),
    ],
)
def test_a_suffix_is_what_people_would_call_one(key: str, suffix: str) -> None:
    assert suffix_of(key) == suffix
