"""Figures query by query as a file, and two evaluations compared: against sums and a bootstrap said with loops."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.models import drawn, fake_encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image

from searchanything import wiring
from searchanything.cli.app import run
from searchanything.core.errors import UsageError
from searchanything.core.types import MaskRLE
from searchanything.evaluation import comparing
from searchanything.evaluation.comparing import compare_evaluations, differing, shown_figures
from searchanything.evaluation.difference_plot import draw_differences, save_differences
from searchanything.evaluation.evaluated import Evaluated
from searchanything.evaluation.query_table import JudgedQuery, QueryTable
from searchanything.evaluation.truth import Instance

SIDE = 320
PLACES = {"left": (20, 20, 140, 140), "right": (180, 20, 300, 140), "low": (20, 180, 120, 280)}
# What is drawn where on each image; grey things are not segmented.
SCENES = (
    {"cup": ("red", "left"), "hat": ("blue", "right")},
    {"cup": ("red", "right")},
    {"hat": ("blue", "low"), "cup": ("grey", "right")},
    {"lamp": ("green", "low")},
)
MAP_10 = "retrieval.codes.map_10"


def asked(number: int, image: str = "a.jpg") -> JudgedQuery:
    return JudgedQuery(image, str(number), "cup", "1,2,3,4", "4")


def table(images: list[str], **figures: list[float]) -> QueryTable:
    queries = [asked(number, image) for number, image in enumerate(images)]
    values = {name.replace("_in_", "."): np.array(column) for name, column in figures.items()}
    return QueryTable(queries, {"to_find": ["1"] * len(queries)}, values)


def evaluated(images: list[str], bits: int = 256, **figures: list[float]) -> Evaluated:
    return Evaluated({"bits": bits}, table(images, **figures))


def test_a_box_is_written_as_the_option_takes_it() -> None:
    pixels = MaskRLE((50, 60), "0")
    said = JudgedQuery.about("a.jpg", Instance("cup", (0.126, 2.0, 30.5, 1234.004), 2.25, pixels, annotation="7"))
    assert said == JudgedQuery("a.jpg", "7", "cup", "0.13,2,30.5,1234", "2.25")


texts = st.text(st.characters(codec="utf-8"), max_size=12)
numbers = st.one_of(st.floats(-1, 1), st.just(float("nan")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(texts, texts, texts, numbers, numbers), max_size=8))
def test_a_table_is_read_back_exactly(tmp_path: Path, rows: list[tuple[str, str, str, float, float]]) -> None:
    queries = [JudgedQuery(image, str(number), name, "0,0,1,1.5", "2") for number, (image, name, *_) in enumerate(rows)]
    figures = {name: np.array([row[place] for row in rows]) for name, place in (("prompts.box", 3), ("a.b.c", 4))}
    further = {"attribute:a.b": [row[2] for row in rows]}
    QueryTable(queries, further, figures).save(tmp_path / "queries.csv")
    again = QueryTable.read(tmp_path / "queries.csv")
    assert list(again.asked) == queries
    assert {name: list(column) for name, column in again.further.items()} == further
    assert [*again.figures] == [*figures]
    for name, values in figures.items():
        assert_array_equal(again.figures[name], values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the columns image, annotation"),
        ("image,annotation,category\n", "expected the columns"),
        ("image,annotation,category,box,area_px,a.b\n1,2,3,4,5\n", "line 2: expected 6 cells, got 5"),
        ("image,annotation,category,box,area_px,a.b\n1,2,3,4,5,six\n", "column a.b: could not convert"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "queries.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        QueryTable.read(tmp_path / "queries.csv")


def test_differences_are_of_the_queries_that_both_answer() -> None:
    nan = float("nan")
    before = evaluated(["a", "a", "b", "c"], prompts_in_box=[1.0, 0.0, 0.9, nan])
    after = evaluated(["a", "a", "b", "c"], prompts_in_box=[0.5, 1.0, nan, 1.0])
    report = compare_evaluations(before, after)
    figure = report["figures"]["prompts.box"]
    assert (report["queries"], report["images"]) == (4, 3)
    assert {name: figure[name] for name in ("queries", "before", "after", "difference", "better", "worse")} == {
        "queries": 2,
        "before": 0.5,
        "after": 0.75,
        "difference": 0.25,
        "better": 1,
        "worse": 1,
    }
    assert figure["ci95"] is None, "both are about one image: no other draw of images could say anything"


def test_an_interval_needs_six_images_that_differ() -> None:
    """Five that all get better are chance once in 16 times, and the bootstrap's interval would exclude zero."""
    images = [f"{number}" for number in range(40)] + ["0", "1"]
    for count in range(7):
        change = [0.5] * count + [0.0] * (40 - count) + [0.5 if count else 0.0, 0.0]
        figure = compare_evaluations(
            evaluated(images, prompts_in_box=[0.25] * 42),
            evaluated(images, prompts_in_box=[0.25 + one for one in change]),
        )["figures"]["prompts.box"]
        assert (figure["ci95"] is None) == (count < 6), count
    assert 0 < figure["ci95"][0] < figure["difference"] < figure["ci95"][1]


def test_less_that_is_lost_is_better() -> None:
    names = ("funnel_in_float", "funnel_in_left")
    before = evaluated(["a", "b", "c"], **{name: [0.2, 0.2, 0.2] for name in names})
    after = evaluated(["a", "b", "c"], **{name: [0.1, 0.1, 0.5] for name in names})
    figures = compare_evaluations(before, after)["figures"]
    counts = {name: (one["difference"], one["better"], one["worse"]) for name, one in figures.items()}
    assert counts == {"funnel.float": (0.03333, 2, 1), "funnel.left": (0.03333, 1, 2)}


def test_another_attribute_to_differ_in_is_another_question() -> None:
    queries = table(["a"], prompts_in_box=[1.0], retrieval_other_in_float_in_map_10=[1.0])
    style, size = (Evaluated({"bits": 64, "other_attribute": name}, queries) for name in ("style", "size"))
    assert "retrieval_other.float.map_10" in compare_evaluations(style, style)["figures"]
    report = compare_evaluations(style, size)
    assert [*report["figures"]] == ["prompts.box"]
    assert differing(report) == "other attribute style → size"


def test_the_order_of_the_queries_does_not_matter() -> None:
    before = evaluated(["a", "b", "c"], prompts_in_box=[0.1, 0.2, 0.9])
    queries = replace(
        before.queries,
        asked=[before.queries.asked[place] for place in (2, 0, 1)],
        figures={"prompts.box": np.array([0.9, 0.1, 0.2])},
    )
    figure = compare_evaluations(before, replace(before, queries=queries))["figures"]["prompts.box"]
    assert (figure["difference"], figure["better"], figure["worse"]) == (0, 0, 0)


def test_the_interval_is_that_of_images_drawn_with_all_their_queries() -> None:
    """Three images with many queries and a few with one: a bootstrap said with loops, of other draws."""
    rng = np.random.default_rng(5)
    images = ["x"] * 40 + ["y"] * 40 + ["z"] * 40 + [f"{number}" for number in range(12)]
    shift = {"x": 0.4, "y": -0.2, "z": 0.1}
    before = rng.random(len(images))
    after = before + [shift.get(one, 0.05) for one in images] + rng.normal(0, 0.01, len(images))
    figure = compare_evaluations(
        evaluated(images, prompts_in_box=before.tolist()), evaluated(images, prompts_in_box=after.tolist())
    )["figures"]["prompts.box"]
    change = after - before
    of = {one: [place for place, image in enumerate(images) if image == one] for one in images}
    names = sorted(of)
    means = []
    for _ in range(4000):
        drawn_images = [names[number] for number in rng.integers(0, len(names), len(names))]
        means.append(np.mean([change[place] for one in drawn_images for place in of[one]]))
    low, high = np.quantile(means, (0.025, 0.975))
    spread = high - low
    assert figure["ci95"] == pytest.approx([low, high], abs=0.08 * spread)
    by_query = 2 * 1.96 * change.std() / np.sqrt(len(change))
    assert spread > 2 * by_query, "queries drawn one by one would say it is surer than it is"


def test_the_own_codes_of_layers_of_other_lengths_meet() -> None:
    names = {"retrieval_in_bits_64_in_map_10": [1.0], "retrieval_in_bits_64_rescored_in_map_10": [0.5]}
    before = evaluated(["a"], 64, **names, retrieval_in_bits_256_in_map_10=[0.1])
    after = evaluated(["a"], 256, retrieval_in_bits_256_in_map_10=[0.0], retrieval_in_bits_64_in_map_10=[0.7])
    figures = compare_evaluations(before, after)["figures"]
    assert {name: (one["before"], one["after"]) for name, one in figures.items()} == {MAP_10: (1.0, 0.0)}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (["a", "b"], ["a"], "1 query in the first alone, 0 in the second"),
        (["a"], ["a", "b", "c"], "0 queries in the first alone, 2 in the second"),
        (["a", "b"], ["a", "c"], "1 query in the first alone, 1 in the second"),
    ],
)
def test_other_queries_are_refused(before: list[str], after: list[str], said: str) -> None:
    one, other = (evaluated(images, prompts_in_box=[1.0] * len(images)) for images in (before, after))
    with pytest.raises(UsageError, match=said):
        compare_evaluations(one, other)


def test_one_annotation_twice_is_refused() -> None:
    twice = QueryTable([asked(1), asked(1)], {}, {"prompts.box": np.ones(2)})
    with pytest.raises(UsageError, match=r"annotation 1 of a\.jpg"):
        compare_evaluations(Evaluated({"bits": 64}, twice), Evaluated({"bits": 64}, twice))


def test_what_two_evaluations_do_not_have_in_common_is_said() -> None:
    one = {"bits": 64, "preset": "pico", "hash": "a" * 64, "other_attribute": None, "seed": 0, "instance": "a b " * 9}
    other = {"bits": 256, "preset": "pico", "hash": "b" * 64, "other_attribute": "style", "seed": 1, "instance": "id"}
    made = [Evaluated(report, table(["a"], prompts_in_box=[1.0])) for report in (one, other)]
    assert differing(compare_evaluations(made[0], made[1])) == (
        f"hash {'a' * 12}… → {'b' * 12}…; bits 64 → 256; other attribute None → style; "
        f"instance {one['instance']} → id; seed 0 → 1"
    )
    del other["seed"], other["hash"]
    said = differing(compare_evaluations(made[0], made[1]))
    assert "seed 0 → None" in said
    assert f"hash {'a' * 12}… → None" in said


def test_two_kinds_of_evaluation_are_refused() -> None:
    with pytest.raises(UsageError, match="no figure in common"):
        compare_evaluations(evaluated(["a"], prompts_in_box=[1.0]), evaluated(["a"], regions_in_float_in_map_10=[1.0]))


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images, annotations with ids, and fake models in place of the preset's."""
    monkeypatch.setattr(wiring, "load_encoder", lambda *_, **__: fake_encoder())
    images, annotations = [], []
    for number, scene in enumerate(SCENES):
        seen = {colour: PLACES[place] for colour, place in scene.values() if colour != "grey"}
        pixels = drawn(SIDE, SIDE, **seen)
        for name, (colour, place) in scene.items():
            x1, y1, x2, y2 = PLACES[place]
            if colour == "grey":
                pixels[y1:y2, x1:x2] = 90
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": len(name), "kind": name, "style": colour}
            annotations.append({"id": 900 + len(annotations), "image_id": number, **box})
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": SIDE, "width": SIDE})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 3, "name": "x"}, {"id": 4, "name": "y"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content), "utf-8")
    return tmp_path


def evaluate(scenes: Path, out: str, *more: str, verb: str = "coco") -> int:
    named = ["--images", str(scenes), "--annotations", str(scenes / "annotations.json"), "--out", str(scenes / out)]
    return run(["eval", verb, *named, "--preset", "pico", *more])


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_line_says_what_a_query_asked_and_what_it_came_to(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(scenes, "out", "--category", "kind", "--group-by", "style", "--no-ablations") == 0
    assert f"saved {scenes / 'out' / 'queries.csv'}" in capsys.readouterr().err
    lines = lines_of(scenes / "out" / "queries.csv")
    assert [(one["image"], one["annotation"], one["category"]) for one in lines] == [
        ("0.png", "900", "cup"),
        ("0.png", "901", "hat"),
        ("1.png", "902", "cup"),
        ("2.png", "903", "hat"),
        ("2.png", "904", "cup"),
        ("3.png", "905", "lamp"),
    ]
    assert [one["to_find"] for one in lines] == ["2", "1", "2", "1", "2", "0"]
    assert [one["selected"] for one in lines] == ["region"] * 4 + ["box", "region"]
    assert [one["attribute:style"] for one in lines] == ["red", "blue", "red", "blue", "grey", "green"]
    assert (lines[1]["box"], lines[1]["area_px"]) == ("180,20,300,140", "14400")
    # A red cup finds the other red one of two, a hat the other hat; nothing is like the lamp.
    precisions = [one["retrieval.bits_64.map_10"] for one in lines]
    assert [*precisions[:4], precisions[5]] == ["0.5", "1.0", "0.5", "1.0", ""]
    assert 0 < float(precisions[4]) <= 1, "the grey cup has no region, but its box finds the red ones"
    report = json.loads((scenes / "out" / "report.json").read_text("utf-8"))
    answered = [float(one["retrieval.bits_64.map_10"]) for one in lines[:5]]
    assert report["retrieval"]["bits_64"]["map_10"] == pytest.approx(np.mean(answered), abs=1e-5)


def test_the_means_of_a_table_are_those_of_its_report(scenes: Path) -> None:
    figures, said = set[str](), set[str]()
    for verb, more in (("coco", ("--category", "kind", "--other", "style")), ("instances", ("--instance", "kind"))):
        assert evaluate(scenes, verb, *more, verb=verb) == 0
        read = Evaluated.read(scenes / verb)
        with_itself = compare_evaluations(read, read)
        known = [name for name in comparing._SHOWN if name in with_itself["figures"]]
        assert list(shown_figures(with_itself).values()) == [with_itself["figures"][name] for name in known]
        assert all(shown_figures(with_itself)), "each is called something, and no two the same"
        assert with_itself["before"] == with_itself["after"]
        assert differing(with_itself) == "the same preset, hash layer, settings and annotated images"
        settings_of = {name: value for name, value in with_itself["before"].items() if name != "failed"}
        assert all(read.report[name] == value for name, value in settings_of.items())
        figures, said = figures | set(known), said | settings_of.keys()
        assert len(read.queries.figures) > 20
        for name, values in read.queries.figures.items():
            place = read.report
            for part in name.split("."):
                place = place[part]
            assert place == (None if np.isnan(values).all() else pytest.approx(np.nanmean(values), abs=1e-5)), name
    assert set(comparing._SHOWN) == figures
    assert said == set(comparing._SETTINGS)


def test_two_layers_are_compared(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(scenes, "one", "--category", "kind", "--no-ablations") == 0
    monkeypatch.setattr(wiring, "load_encoder", lambda *_, **__: fake_encoder(regions=1, bits=128))
    assert evaluate(scenes, "two", "--category", "kind", "--no-ablations") == 0
    capsys.readouterr()
    assert run(["eval", "compare", str(scenes / "one"), str(scenes / "two"), "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    figure = report["figures"]["retrieval.float.map_10"]
    one, two = (lines_of(scenes / name / "queries.csv") for name in ("one", "two"))
    changes = [
        float(after["retrieval.float.map_10"]) - float(before["retrieval.float.map_10"])
        for before, after in zip(one[:5], two[:5], strict=True)
    ]
    assert figure["difference"] == pytest.approx(np.mean(changes), abs=1e-5)
    assert figure["difference"] < 0
    assert figure["queries"] == 5
    assert [figure["better"], figure["worse"]] == [sum(one > 0 for one in changes), sum(one < 0 for one in changes)]
    assert (report["before"]["bits"], report["after"]["bits"]) == (64, 128)
    assert MAP_10 in report["figures"]
    assert run(["eval", "compare", str(scenes / "one"), str(scenes / "two")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6 queries on 4 images"
    assert "bits 64 → 128" in " ".join(lines)
    row = next(line for line in lines if line.startswith("mAP@10 float "))
    assert f"{figure['difference']:+.3f}" in row
    plot = scenes / "plot.svg"
    assert run(["eval", "compare", str(scenes / "one"), str(scenes / "two"), "--save", str(plot)]) == 0
    assert plot.read_text("utf-8").rstrip().endswith("</svg>")
    assert f"saved {plot}" in capsys.readouterr().err
    assert run(["eval", "compare", str(scenes / "one"), str(scenes / "two"), "--save", str(scenes / "plot.txt")]) == 2


def test_the_picture_shows_each_difference_where_it_is(tmp_path: Path) -> None:
    images = [f"{number}" for number in range(8)]
    before = {
        "prompts_in_box": [0.5] * 8,
        "prompts_in_text": [0.5] * 8,
        "prompts_in_point": [0.0, 1.0] * 4,
        "prompts_in_naming": [0.0] * 8,
    }
    after = {
        "prompts_in_box": [0.7, 0.8, 0.9, 0.8] * 2,
        "prompts_in_text": [0.3] * 8,
        "prompts_in_point": [1.0, 0.0] * 4,
        "prompts_in_naming": [1.0] + [0.0] * 7,
    }
    report = compare_evaluations(evaluated(images, **before), evaluated(images, **after))
    axes = draw_differences(report).axes[0]
    points = [
        line.get_xydata()[0].tolist() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())
    ]
    assert points == [[pytest.approx(0.3), 0], [0, 1], [pytest.approx(-0.2), 2], [0.125, 3]]
    labels = ["box prompt", "point prompt", "text prompt", "naming"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == labels
    means = ["0.500 → 0.800", "0.500 → 0.500", "0.500 → 0.300", "0.000 → 0.125"]
    assert [text.get_text() for text in axes.texts] == means
    colours = [line.get_color() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert len(set(colours)) == 4, "better, unclear, worse, of too few images"
    bars = [line.get_xdata().tolist() for line in axes.lines if line.get_linewidth() == 2.5]
    assert bars[1] == report["figures"]["prompts.point"]["ci95"]
    assert bars[1][0] < 0 < bars[1][1]
    save_differences(report, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as page:
        assert np.ptp(np.asarray(page.convert("L"))) == 255


@pytest.mark.filterwarnings("ignore:No artists with labels")
@pytest.mark.parametrize("preset", [r"$\x$", "a\x1b[2Jb"])
def test_settings_of_strangers_are_drawn_as_they_are(tmp_path: Path, preset: str) -> None:
    report = {"queries": 1, "images": 1, "before": {"preset": preset}, "after": {"preset": "pico"}, "figures": {}}
    save_differences(report, tmp_path / "plot.svg")
    assert "\x1b" not in (tmp_path / "plot.svg").read_text("utf-8")


def test_what_no_evaluation_wrote_is_refused(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(scenes, "one", "--no-ablations") == 0
    other = scenes / "other"
    other.mkdir()
    arguments = ["eval", "compare", str(scenes / "one"), str(other)]
    assert run(arguments) == 2
    (other / "report.json").write_text("[]")
    assert run(arguments) == 2
    (other / "report.json").write_text('{"bits": 64}')
    assert run(arguments) == 2
    said = capsys.readouterr().err
    for expected in ("report.json cannot be read", "expected the report of", "queries.csv cannot be read"):
        assert expected in said
    assert run(["eval", "compare", str(scenes / "one"), str(scenes / "nowhere")]) == 2


def test_files_of_two_runs_in_one_folder_are_refused(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(scenes, "one", "--category", "kind", "--no-ablations") == 0
    monkeypatch.setattr(wiring, "load_encoder", lambda *_, **__: fake_encoder(regions=1))
    assert evaluate(scenes, "two", "--category", "kind", "--no-ablations") == 0
    two = [str(scenes / "two"), str(scenes / "two")]
    stored = (scenes / "two" / "queries.csv").read_bytes()
    (scenes / "two" / "queries.csv").write_bytes(b"\xef\xbb\xbf" + stored.replace(b"\r\n", b"\n"))
    assert run(["eval", "compare", *two]) == 0, "as some editors leave it"
    assert "the same preset, hash layer, settings and annotated images" in capsys.readouterr().out
    (scenes / "one" / "report.json").replace(scenes / "two" / "report.json")
    assert run(["eval", "compare", *two]) == 2
    assert "report.json and queries.csv are not of one run" in capsys.readouterr().err


def test_pictures_of_an_earlier_report_do_not_stay(scenes: Path) -> None:
    assert evaluate(scenes, "out", "--category", "kind", "--no-ablations") == 0
    assert (scenes / "out" / "figures.png").exists()
    assert evaluate(scenes, "out", "--instance", "kind", verb="instances") == 0
    assert sorted(path.name for path in (scenes / "out").iterdir()) == ["queries.csv", "report.json"]


def test_an_image_that_failed_in_one_run_is_named_as_the_reason(
    scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(scenes, "one", "--no-ablations") == 0
    (scenes / "3.png").unlink()
    assert evaluate(scenes, "two", "--no-ablations") == 3
    assert run(["eval", "compare", str(scenes / "one"), str(scenes / "two")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "1 query in the first alone, 0 in the second; 0 images failed in the first, 1 in the second" in said


def test_a_folder_that_cannot_be_written_is_refused_before_the_models_are_loaded(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wiring, "load_encoder", lambda *_, **__: pytest.fail("the models were loaded"))
    (scenes / "file").write_text("")
    for verb in ("coco", "instances"):
        assert evaluate(scenes, "file/below", verb=verb) == 2
        assert "cannot be made" in capsys.readouterr().err
