"""Results: sequences, documents of plain JSON, tables, and files that are written whole or not at all."""

import builtins
import dataclasses
import io
import json
import stat

import numpy as np
import pytest
from PIL import Image

from searchanything.answers.matching import Matching, one_in
from searchanything.answers.results import MAX_TILES, SearchResults, Segments
from searchanything.core.errors import ObjectNotFoundError, UsageError
from searchanything.core.files import check_save_path
from searchanything.core.geometry import encode_rle
from searchanything.core.types import Candidate, Hit, ImageRef, Selection

MASK = np.zeros((12, 16), dtype=np.bool_)
MASK[3:9, 4:10] = True
RLE = encode_rle(MASK)
IMAGE = np.full((120, 160, 3), 90, dtype=np.uint8)
CANDIDATE = Candidate((1.04, 2.0, 30.0, 40.0), 1000, 0.912345678, RLE)


def hit(number: int, *, region: int | None = 0) -> Hit:
    return Hit(
        image=ImageRef("bucket", f"images/{number}.jpg"),
        etag=f"e{number}",
        region=region,
        box_xyxy=(np.float32(10.123456), 20.0, 30.0, 40.0),
        mask=None if region is None else RLE,
        area_px=np.int64(321),
        score=np.float32(0.5),
        distance_bits=np.int64(number),
        image_width=160,
        image_height=120,
        metadata={"album": "sea", "year": 2024},
    )


def selection(kind="region", runners_up=(CANDIDATE,)) -> Selection:
    return Selection(kind, (40.0, 30.0, 100.0, 90.0), 3600, RLE, 0.8, "points/score", "the surest of 2", runners_up)


def results(*hits: Hit, **changes) -> SearchResults:
    made = SearchResults(
        hits=hits,
        query_image=IMAGE,
        prompt_description={"kind": "point", "foreground": [[60.0, 50.0]], "background": [[5.0, 5.0]]},
        selection=selection(),
        fingerprint="f" * 16,
        collection="regions_f",
        exact=True,
        timings_ms={"segment": 12.34567, "search": 1.0},
        open_image=lambda _image: IMAGE,
    )
    return dataclasses.replace(made, **changes)


def test_sequence_of_hits():
    found = results(hit(1), hit(2), hit(3))
    assert len(found) == 3
    assert found[0].distance_bits == 1
    assert found[-1] == hit(3)
    assert [one.distance_bits for one in found] == [1, 2, 3]
    assert hit(2) in found
    assert [one.distance_bits for one in found[1:]] == [2, 3]
    assert found[1:].selection is found.selection
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.hits = ()


def test_document_has_the_promised_fields_in_plain_json():
    document = json.loads(json.dumps(results(hit(7)).to_dict(), allow_nan=False))
    assert document["selection"] == {
        "kind": "region",
        "box_xyxy": [40.0, 30.0, 100.0, 90.0],
        "area_px": 3600,
        "mask": {"size": [12, 16], "counts": RLE.counts},
        "score": 0.8,
        "rule": "points/score",
        "reason": "the surest of 2",
        "runners_up": [
            {
                "box_xyxy": [1.0, 2.0, 30.0, 40.0],
                "area_px": 1000,
                "score": 0.9123,
                "mask": document["selection"]["mask"],
            }
        ],
        "text_match": None,
    }
    assert document["hits"] == [
        {
            "bucket": "bucket",
            "key": "images/7.jpg",
            "region": 0,
            "box_xyxy": [10.1, 20.0, 30.0, 40.0],
            "mask": {"size": [12, 16], "counts": RLE.counts},
            "distance_bits": 7,
            "false_match": None,
            "area_px": 321,
            "score": 0.5,
            "similarity": None,
            "image": {"width": 160, "height": 120},
            "etag": "e7",
            "metadata": {"album": "sea", "year": 2024},
            "confidence": None,
        }
    ]
    assert document["fingerprint"] == "f" * 16
    assert document["collection"] == "regions_f"
    assert document["exact"] is True
    assert document["timings_ms"] == {"segment": 12.346, "search": 1.0}
    assert document["prompt"]["kind"] == "point"


def test_whole_image_hit_has_neither_region_nor_mask():
    document = results(hit(1, region=None)).to_dict()["hits"][0]
    assert document["region"] is None
    assert document["mask"] is None


def test_table_has_a_row_per_hit_and_keeps_missing_regions_whole_numbers():
    table = results(hit(1), hit(2, region=None)).to_pandas()
    assert list(table["key"]) == ["images/1.jpg", "images/2.jpg"]
    assert str(table["region"].dtype) == "Int64"
    assert table["region"].isna().tolist() == [False, True]
    assert table.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == pytest.approx([10.123456, 20, 30, 40])


def test_a_table_has_rates_and_can_be_written_whatever_the_metadata(tmp_path):
    odd = [
        dataclasses.replace(hit(1), metadata={}),
        dataclasses.replace(hit(2), metadata={"year": 2020, "ort": "Köln"}, false_match=1e-5),
        dataclasses.replace(hit(3), metadata={"year": "unknown"}),
    ]
    for hits in (odd, odd[:1], []):
        table = results(*hits).to_pandas()
        table.to_parquet(tmp_path / "hits.parquet")
        assert table["false_match"].dtype == table["similarity"].dtype == "float64"
    table = results(*odd).to_pandas()
    assert table["metadata"].map(json.loads).tolist() == [one.metadata for one in odd]
    assert "Köln" in table.loc[1, "metadata"], "it cannot be searched for what it says"
    assert table.loc[1, "false_match"] == 1e-5


def test_empty_table_has_all_columns():
    assert results().to_pandas().columns.tolist() == results(hit(1)).to_pandas().columns.tolist()


def test_missing_pandas_is_answered_with_the_command_that_installs_it(monkeypatch):
    genuine = builtins.__import__

    def without_pandas(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return genuine(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(UsageError, match=r"pip install .*\[pandas\]'"):
        results().to_pandas()


def test_sheet_shows_the_query_and_each_hit():
    one, two = results(hit(1)).plot(), results(hit(1), hit(2)).plot()
    assert two.width > one.width
    assert results(*[hit(n) for n in range(5)]).plot(columns=2).width == one.width
    with pytest.raises(UsageError, match="columns: expected a whole number of 1 or more, got 0"):
        results().plot(columns=0)


def test_sheet_shows_the_selection_and_nothing_for_the_whole_image():
    region, whole = (
        np.asarray(results(selection=selection(kind), prompt_description={"kind": "image"}).plot())
        for kind in ("region", "image")
    )
    assert (region != whole).any()


def test_nothing_selected_shows_the_nearest_candidates():
    offered, none = (
        results(selection=selection("none", runners_up))._query_tile() for runners_up in ((CANDIDATE,), ())
    )
    assert (offered.image != none.image).any()
    assert offered.subtitle == f"{none.subtitle}; the nearest regions are numbered"


def test_sheet_is_bounded(monkeypatch):
    assert 10 <= MAX_TILES <= 200
    monkeypatch.setattr("searchanything.answers.results.MAX_TILES", 8)
    assert results(*[hit(n) for n in range(9)]).plot(columns=4).height == results(*[hit(0)] * 8).plot(4).height
    assert results(*[hit(n) for n in range(8)]).plot(columns=4).height > results(*[hit(0)] * 7).plot(4).height


def test_unreadable_image_leaves_the_other_tiles(caplog):
    def open_image(image: ImageRef) -> np.ndarray:
        if image.key == "images/1.jpg":
            raise ObjectNotFoundError("gone")
        return IMAGE

    sheet = results(hit(1), hit(2), open_image=open_image).plot()
    assert sheet.size == results(hit(1), hit(2)).plot().size
    assert "bucket/images/1.jpg cannot be shown: gone" in caplog.text


def test_defect_of_a_reader_is_not_hidden():
    def open_image(_image: ImageRef) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        results(hit(1), open_image=open_image).plot()


@pytest.mark.parametrize(("name", "format"), [("a.png", "PNG"), ("b.JPG", "JPEG"), ("c.webp", "WEBP")])
def test_saved_file_is_of_the_kind_its_name_says(tmp_path, name, format):
    results(hit(1)).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.format == format
        assert image.size == results(hit(1)).plot().size
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o400
    assert [path.name for path in (tmp_path / name).parent.iterdir() if path.is_file()] == [(tmp_path / name).name]


@pytest.mark.parametrize("name", ["a.pdf", "a", ".png", "a.png.txt"])
def test_foreign_suffix_is_refused_before_anything_is_drawn(tmp_path, name):
    def open_image(_image: ImageRef) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(UsageError, match=r"\.png, \.jpg, \.jpeg, \.webp"):
        results(hit(1), open_image=open_image).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_folder_is_not_a_file_name(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_save_path(tmp_path / "a.png")


def test_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("file", "none/there"):
        with pytest.raises(UsageError, match=rf"{folder}/a\.png: there is no folder .*{folder};"):
            results().save(tmp_path / folder / "a.png")
    assert not (tmp_path / "none").exists()


def test_failed_save_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")

    def fail(_image, file, **_options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UsageError, match="No space left on device"):
        results().save(target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_jupyter_shows_the_sheet():
    found = results(hit(1), prompt_description={"kind": "text", "text": "<script>"}, selection=selection())
    with Image.open(io.BytesIO(found._repr_png_())) as image:
        assert image.format == "PNG"
    page = found._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 2  # the query and its hit
    assert "<script>" not in page


def test_repr_says_what_was_found():
    assert repr(results(hit(3), hit(4))) == (
        "<SearchResults: 2 hits for point (the surest of 2), nearest s3://bucket/images/3.jpg at 3 bits>"
    )
    assert "0 hits" in repr(results())


def test_segments(tmp_path):
    segments = Segments(IMAGE, (CANDIDATE, dataclasses.replace(CANDIDATE, area_px=5)))
    assert len(segments) == 2
    assert segments[1].area_px == 5
    assert [one.area_px for one in segments[:1]] == [1000]
    document = json.loads(json.dumps(segments.to_dict()))
    assert document["image"] == {"width": 160, "height": 120}
    assert document["regions"][0] == {
        "box_xyxy": [1.0, 2.0, 30.0, 40.0],
        "area_px": 1000,
        "score": 0.9123,
        "mask": {"size": [12, 16], "counts": RLE.counts},
    }
    segments.save(tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as image:
        assert image.size == (640, 480)
    assert repr(segments) == "<Segments: 2 regions in an image of 160 × 120 px>"
    assert Segments(IMAGE, ()).to_dict()["regions"] == []


def test_chance_is_shown_with_what_is_judged() -> None:
    judged = Matching(4096, 1e-3, dataclasses.replace(hit(7), false_match=0.02), ())
    nothing = results(matching=judged)
    assert nothing.verdict == (
        "no good match: 1 in 50 unrelated regions is as near as the nearest hit, at 7 bits (1 in 1,000 was asked for)"
    )
    assert nothing.to_dict()["matching"] == {
        "sample": 4096,
        "max_false_match": 1e-3,
        "nearest_bits": 7,
        "nearest_false_match": 0.02,
        "verdict": nothing.verdict,
    }
    assert results(hit(7)).to_dict()["matching"] is None


@pytest.mark.parametrize(
    ("rate", "said"),
    [(1e-4, "1 in 10,000"), (3e-4, "1 in 3,300"), (0.02, "1 in 50"), (0.3, "1 in 3"), (0.9, "nearly every one of the")],
)
def test_rates_for_people(rate: float, said: str) -> None:
    assert one_in(rate) == said
