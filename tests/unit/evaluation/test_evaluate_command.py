"""`searchanything eval`: arguments in, one report on stdout, files in a folder, an exit code out."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from fakes.models import drawn, fake_encoder
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from searchanything import wiring
from searchanything.cli.app import run
from searchanything.encode.fingerprint import manifest_of
from searchanything.evaluation.plots import draw
from searchanything.models.hashing import HashLayer

SIDE = 320
SQUARE = (20, 20, 140, 140)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images of a red cup, and fake models in place of the preset's."""
    encoder = fake_encoder()
    monkeypatch.setattr(wiring, "load_encoder", lambda *_, **__: encoder)
    for name in ("a.png", "b.png"):
        Image.fromarray(drawn(SIDE, SIDE, red=SQUARE)).save(tmp_path / name)
    images = [{"id": n, "file_name": name, "height": SIDE, "width": SIDE} for n, name in enumerate(("a.png", "b.png"))]
    cups = [{"image_id": n, "category_id": 1, "bbox": [20, 20, 120, 120], "style": "flat"} for n in (0, 1)]
    content = {"images": images, "annotations": cups, "categories": [{"id": 1, "name": "cup"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content), "utf-8")
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    named = ["--images", str(folder), "--annotations", str(folder / "annotations.json")]
    return ["eval", "coco", *named, "--preset", "pico", *more]


def test_the_report_is_one_json_document_with_the_fields_that_scripts_rely_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(folder, "--format", "json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"recall_iou50", "recall_iou75"} <= {*report["segmentation"]}
    assert {"box", "point", "text"} <= {*report["prompts"]}
    assert {"float", "bits_256", "bits_64"} <= {*report["retrieval"]}
    assert {"map_10", "precision_1", "precision_5", "precision_10", "recall_10"} <= {*report["retrieval"]["bits_256"]}
    assert {"by_size", "ablations", "funnel", "ci95", "preset"} <= {*report}
    assert report["ci95"] == {}  # of two images
    assert report["preset"] == "pico"


def test_the_table_shows_the_groups(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(folder, "--no-ablations", "--group-by", "style", "--other", "style")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 images, 2 instances of 1 category, 2 with another one to find")
    assert lines[1].split()[-1] == "style=flat"
    assert any(line.startswith("mAP@10 64 bit") and line.split()[3] == "1.000" for line in lines)
    assert not any("other style" in line for line in lines)  # nothing of another style is to be found


def test_files_go_into_the_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "new" / "report"
    assert run(arguments(folder, "--out", str(out), "--format", "json")) == 0
    captured = capsys.readouterr()
    assert json.loads((out / "report.json").read_text("utf-8")) == json.loads(captured.out)
    with Image.open(out / "figures.png") as page:
        assert np.ptp(np.asarray(page.convert("L"))) == 255
    assert (out / "figures.svg").read_text("utf-8").rstrip().endswith("</svg>")
    assert str(out / "figures.png") in captured.err


@pytest.mark.parametrize("trained_on", [None, "own", "f" * 32])
def test_a_layer_for_other_features_is_warned_of(
    folder: Path, trained_on: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = fake_encoder()
    own = manifest_of(encoder, "pico").feature_fingerprint
    stated = {} if trained_on is None else {"feature_fingerprint": own if trained_on == "own" else trained_on}
    columns = encoder.segmenter.feature_dimension + encoder.embedder.dimension
    layer = HashLayer.create(
        np.eye(256, columns, dtype=np.float32),
        np.zeros(256, np.float32),
        mask_dimension=encoder.segmenter.feature_dimension,
        provenance={"method": "itq", "trained": "true", **stated},
    )
    (folder / "mine.safetensors").write_bytes(layer.to_bytes())
    assert run(arguments(folder, "--no-ablations", "--hash", str(folder / "mine.safetensors"))) == 0
    warned = [one for one in caplog.messages if f"trained on features {trained_on}, these are {own}" in one]
    assert len(warned) == (trained_on == "f" * 32)


def test_legends_lie_beside_what_is_plotted_and_name_all_of_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(folder, "--group-by", "style", "--format", "json")) == 0
    page = draw(json.loads(capsys.readouterr().out))
    FigureCanvasAgg(page).draw()
    retrieval, sizes, funnel, policies = page.axes
    named = {axes: [text.get_text() for text in axes.get_legend().get_texts()] for axes in page.axes}
    assert set(named[retrieval]) >= {"float", "256 bit", "64 bit", "95 % interval"}
    assert set(named[funnel]) <= {"lost", "left, or gained"}
    assert len(named[funnel]) > 0
    assert named[policies] == ["largest 25, 50, 100; stratified 25, 50, 100"], "one mark: all come to the same here"
    for axes in (retrieval, sizes, funnel):
        legend = axes.get_legend().get_window_extent()
        assert axes.patches
        for drawn_thing in (*axes.patches, *axes.lines, *axes.texts):
            assert not legend.overlaps(drawn_thing.get_window_extent()), axes.get_title()


def test_missing_images_are_reported_and_the_exit_code_is_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "b.png").unlink()
    assert run(arguments(folder, "--no-ablations")) == 3
    assert f"failed: {folder / 'b.png'}: cannot be read" in capsys.readouterr().out


def test_broken_annotations_are_an_error_that_names_the_field(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(folder, "--category", "concept", "--format", "json")) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "AnnotationsError"
    assert "annotations.json: annotations[0].concept: expected a text" in error["message"]


@pytest.mark.parametrize(
    "wrong", [["eval", "coco"], ["eval", "voc", "--root", "nowhere"], ["eval", "coco", "--images", "nowhere"]]
)
def test_wrong_usage_is_refused_before_anything_is_loaded(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(wrong) == 2
    assert "error:" in capsys.readouterr().err


def test_voc_reads_its_own_layout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder / "VOC2012"
    for part in ("JPEGImages", "SegmentationObject", "Annotations", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True)
    for number, name in enumerate(("a", "b")):
        Image.fromarray(drawn(SIDE, SIDE, red=SQUARE)).save(root / "JPEGImages" / f"{name}.jpg", format="PNG")
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        mask[20:140, 20:140] = 1
        Image.fromarray(mask).save(root / "SegmentationObject" / f"{name}.png")
        xml = f"<annotation><object><name>cup</name><pose>{number}</pose></object></annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(xml, "utf-8")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nb\n", "utf-8")
    options = ["--root", str(root), "--preset", "pico", "--no-ablations", "--group-by", "pose", "--format", "json"]
    assert run(["eval", "voc", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["segmentation"]["recall_iou50"] == 1.0
    assert [*report["groups"]["pose"]] == ["0", "1"]


@pytest.mark.filterwarnings("ignore:Glyph")  # of letters that the font lacks
@pytest.mark.parametrize(
    "style", [r"$\x$", "a$b$c", "\x1b[2J\x07", "a\x00b", "<script>alert(1)</script>", "\u202egpj", "long " * 9000]
)
def test_attributes_of_strangers_are_drawn_as_they_are(folder: Path, style: str) -> None:
    content = json.loads((folder / "annotations.json").read_text("utf-8"))
    content["annotations"][0]["style"] = style
    (folder / "annotations.json").write_text(json.dumps(content), "utf-8")
    assert run(arguments(folder, "--group-by", "style", "--no-ablations", "--out", str(folder / "report"))) == 0
    drawing = ET.parse(folder / "report" / "figures.svg")  # noqa: S314 - our own
    assert not [one for one in drawing.iter() if one.tag.endswith("script")]
