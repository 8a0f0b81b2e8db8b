"""Which rows of several files are of the newest copy of their image, against a dict over all of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.features.contents import BUCKET_KEY, IMAGES_KEY
from searchanything.features.newest_copies import ListedImages, newest_rows

COPIES = st.lists(
    st.tuples(st.sampled_from(["a", "ä", "c/d"]), st.integers(1, 3), st.integers(0, 3)),
    max_size=4,
    unique_by=lambda one: one[:2],
)
FILES = st.lists(st.tuples(st.sampled_from(["b", "other"]), COPIES) | st.none(), max_size=4)


def footer(bucket: str, copies: list[tuple[str, int, int]]) -> dict[bytes, bytes]:
    images = [{"key": key, "etag": "e", "generation": at, "regions": regions} for key, at, regions in copies]
    return {BUCKET_KEY: json.dumps(bucket).encode(), IMAGES_KEY: json.dumps(images).encode()}


@given(FILES)
def test_rows_of_the_newest_copy_remain(files: list[tuple[str, list[tuple[str, int, int]]] | None]) -> None:
    newest: dict[tuple[str, str], tuple[int, int]] = {}
    for number, file in enumerate(files):
        for key, generation, _ in file[1] if file else ():
            newest[file[0], key] = max(newest.get((file[0], key), (0, 0)), (generation, number))  # type: ignore[index]
    listed = [file and ListedImages.of(footer(*file), sum(copy[2] for copy in file[1])) for file in files]
    found = newest_rows(listed)
    assert len(found) == len(files)
    for number, (file, rows) in enumerate(zip(files, found, strict=True)):
        if file is None:
            assert rows is None
            continue
        copies = [(newest[file[0], key] == (generation, number), regions) for key, generation, regions in file[1]]
        assert (rows is None) == all(is_newest for is_newest, _ in copies)
        if rows is not None:
            assert rows.tolist() == [is_newest for is_newest, regions in copies for _ in range(regions)]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {BUCKET_KEY: b'"b"'},
        footer("b", []) | {IMAGES_KEY: b"["},
        footer("b", []) | {IMAGES_KEY: b"[1]"},
        footer("b", []) | {IMAGES_KEY: b'[{"key": "a"}]'},
        footer("b", []) | {BUCKET_KEY: b"\xff"},
        footer("b", [("a", 1, 2)]),
    ],
)
def test_a_file_that_does_not_say_whose_its_rows_are_is_not_listed(metadata: dict[bytes, bytes]) -> None:
    assert ListedImages.of(metadata, 3) is None
