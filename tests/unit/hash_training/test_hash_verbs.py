"""`searchanything hash` as people use it: nothing of theirs is lost, and what is wrong is told before the work."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
from fakes.indexing import new_index
from fakes.interrupted_training import train_interrupted
from fakes.stores import InMemoryStore
from onnx import TensorProto, helper

from searchanything.cli.app import run
from searchanything.core.codes import next_generation
from searchanything.core.files import check_writable
from searchanything.core.protocols import ImageFeatures
from searchanything.core.types import ImageRef
from searchanything.features.keep import ParquetKeeper
from searchanything.features.layout import FeatureCache
from searchanything.features.status import cache_status
from searchanything.hash_training import deep, rotations, training
from searchanything.models.hashing import HashLayer
from searchanything.stores.files import FolderFiles

LAYER = HashLayer.random_rotation(2, 3, bits=128, seed=1)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to work in, with a layer and features of 120 rows."""
    monkeypatch.chdir(tmp_path)
    Path("h.safetensors").write_bytes(LAYER.to_bytes())
    np.save("f.npy", np.random.default_rng(0).normal(size=(120, 5)).astype(np.float32))
    return tmp_path


@pytest.fixture
def keeping_status(in_folder: Path) -> str:
    """Where features are kept, as a status tells it; `regions.parquet` holds the same rows."""
    store, index = InMemoryStore(), new_index()
    cache = FeatureCache(FolderFiles(in_folder / "kept"), store.bucket, index.manifest)
    drawn = np.random.default_rng(1).normal(size=(121, 12)).astype(np.float32)
    image = ImageRef(store.bucket, "a.png")
    ParquetKeeper(cache).keep([ImageFeatures(image, "e", next_generation(), drawn[:, :4], drawn[:, 4:])])
    [file] = (in_folder / "kept").glob("*.parquet")
    Path("regions.parquet").write_bytes(file.read_bytes())
    return cache_status(cache, index, age_s=3600).location


ENCODE = ("encode", "--features", "f.npy", "--mask-dimension", "2", "--hash", "h.safetensors", "--out")
CUT = ("cut", "--hash", "h.safetensors", "--bits", "64", "--out")
IMPORT = ("import", "h.safetensors", "--mask-dimension", "2", "--image-dimension", "3", "--tensor", "weight", "--out")


@pytest.mark.parametrize(
    ("arguments", "given", "link"),
    [(ENCODE, "f.npy", "l.npy"), (CUT, "h.safetensors", "l.safetensors"), (IMPORT, "h.safetensors", "l.safetensors")],
)
def test_an_output_is_never_written_over_an_input(
    arguments: tuple[str, ...], given: str, link: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(given).read_bytes()
    Path(link).symlink_to(given)
    os.link(given, f"hard-{link}")
    for out in (given, str(in_folder / given), f"./{given}", link, f"hard-{link}"):
        assert run(["hash", *arguments, out]) == 2
        assert f"written over {given}, which is read" in capsys.readouterr().err
        assert Path(given).read_bytes() == before
    assert Path(link).is_symlink()
    Path(f"other-{link}").write_bytes(b"an older one")
    assert run(["hash", *arguments, f"other-{link}"]) == 0  # any other file is replaced, as before
    assert Path(given).read_bytes() == before


def test_codes_are_not_written_over_the_layer_either(capsys: pytest.CaptureFixture[str]) -> None:
    Path("h.safetensors").rename("h.npy")
    assert run(["hash", *ENCODE[:-2], "h.npy", "--out", "h.npy"]) == 2
    assert "written over h.npy" in capsys.readouterr().err
    assert Path("h.npy").read_bytes() == LAYER.to_bytes()


TRAIN = ("hash", "train", "--features", "f.npy", "--mask-dimension", "2", "--bits", "64", "--out", "t.safetensors")
STATE = Path("t.state")


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """No features are read."""

    def read(*_: object, **__: object) -> None:
        raise AssertionError("features were read")

    monkeypatch.setattr(training, "draw_sample", read)


@pytest.mark.usefixtures("unread")
def test_a_file_under_the_name_of_the_state_is_neither_written_over_nor_removed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = LAYER.to_bytes()  # safetensors, too, and no state
    for data in (b"my notes", b"", other, forged_state(b"9" * 5000)):
        STATE.write_bytes(data)
        for arguments, message in (
            ((), "t.state is no state of a training"),
            (("--resume",), "cannot be resumed from"),
        ):
            assert run([*TRAIN, *arguments]) == 2
            assert message in capsys.readouterr().err
            assert STATE.read_bytes() == data
    assert not Path("t.safetensors").exists()


def forged_state(step: bytes) -> bytes:
    """A state that says nothing but its step, with a tensor of a type that numpy has not."""
    facts = b'"origin":"","settings":"{}","step":"%b","stale":"0","best_loss":"0"' % step
    head = b'{"__metadata__":{%b},"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}' % facts
    return struct.pack("<Q", len(head)) + head + bytes(4)


def test_a_file_under_the_name_of_the_state_outlives_a_training_that_keeps_none() -> None:
    STATE.write_text("my notes")
    assert run([*TRAIN, "--method", "lsh", "--prefix-ordered"]) == 0
    assert STATE.read_text() == "my notes"


def test_a_state_outlives_a_training_that_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_interrupted(monkeypatch, TRAIN) == 130
    kept = STATE.read_bytes()
    assert run([*TRAIN, "--method", "lsh", "--prefix-ordered"]) == 0
    assert STATE.read_bytes() == kept


def test_a_state_of_an_older_training_is_replaced_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_interrupted(monkeypatch, TRAIN) == 130
    assert run([*TRAIN, "--seed", "3"]) == 0
    assert not STATE.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bits", "128"), "bits 64, not 128"),
        (("--seed", "3"), "seed 0, not 3"),
        (("--mask-share", "0.5"), "mask_share 0.1, not 0.5"),
        (("--mask-dimension", "1"), "mask_dimension 2, not 1"),
        (("--features", "g.npy"), "rows 120, not 121"),
    ],
)
def test_a_state_of_another_training_is_refused_before_anything_is_read(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    np.save("g.npy", np.ones((121, 5), np.float32))
    assert train_interrupted(monkeypatch, TRAIN) == 130
    before = STATE.read_bytes()
    request.getfixturevalue("unread")
    assert run([*TRAIN, *arguments, "--resume"]) == 2
    assert message in capsys.readouterr().err
    assert STATE.read_bytes() == before


def test_a_damaged_state_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    assert train_interrupted(monkeypatch, TRAIN) == 130
    request.getfixturevalue("unread")
    for damaged in (STATE.read_bytes()[:-9], forged_state(b"7")):
        STATE.write_bytes(damaged)
        assert run([*TRAIN, "--resume"]) == 2
        assert "t.state cannot be resumed from" in capsys.readouterr().err


def test_features_of_the_same_size_with_other_values_are_refused_before_the_baselines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_interrupted(monkeypatch, TRAIN) == 130
    np.save("f.npy", np.load("f.npy")[::-1].copy())

    def fitted(*_: object, **__: object) -> None:
        raise AssertionError("a rotation was fitted")

    for module in (deep, rotations):
        monkeypatch.setattr(module, "itq", fitted)
    monkeypatch.setattr(deep, "neighbour_whitening", fitted)
    assert run([*TRAIN, "--resume"]) == 2
    assert "other features or options" in capsys.readouterr().err


def test_what_a_ctrl_c_leaves_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "draw_sample", interrupted)
        assert run(TRAIN) == 130
        assert "nothing of this training was kept yet" in capsys.readouterr().err
    assert train_interrupted(monkeypatch, TRAIN) == 130
    told = "up to step 20 is kept in t.state; the same command with --resume goes on from it"
    assert told in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr(training, "draw_sample", interrupted)
        assert run([*TRAIN, "--resume"]) == 130
        assert told in capsys.readouterr().err  # it still is
        assert run([*TRAIN, "--seed", "3"]) == 130
        assert "nothing of this training was kept yet" in capsys.readouterr().err  # what is there is another's


def test_nothing_to_resume_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*TRAIN, "--resume"]) == 0
    assert "there is no state t.state, so the training begins anew" in capsys.readouterr().err
    assert run(TRAIN) == 0
    assert "state" not in capsys.readouterr().err


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("out", [f"{'r' * 250}.html", "/proc/self/r.html", "--out"])
def test_what_cannot_be_written_is_told_before_the_work(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Long names and the folder of a process cannot be written by root either."""
    name = f"{'t' * 240}.safetensors" if out == "--out" else out
    assert run([*TRAIN, *(("--out", name) if out == "--out" else ("--report", name))]) == 2
    assert f"{name} cannot be written" in capsys.readouterr().err.replace("\n", "")
    if out != "--out":
        judge = ("judge", "--features", "f.npy", "--mask-dimension", "2", "--hash", "h.safetensors")
        assert run(["hash", *judge, "--report", name]) == 2
        assert f"{name} cannot be written" in capsys.readouterr().err.replace("\n", "")


def test_trying_a_place_leaves_what_is_there(in_folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in in_folder.iterdir()}
    check_writable(in_folder / "f.npy")
    check_writable(in_folder / "new.html")
    assert {path.name: path.read_bytes() for path in in_folder.iterdir()} == before


RECALLS = ("recall_10_at_10", "recall_10_at_100")
JUDGE = ("hash", "judge", "--features", "f.npy", "--mask-dimension", "2", "--hash", "h.safetensors")


def judged(capsys: pytest.CaptureFixture[str], command: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """The judgement of a verb, by method."""
    assert run([*command, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)["judgement"]


def test_a_training_on_few_regions_is_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    few = np.load("f.npy")
    for rows, held_out in ((20, 4), (99, 19)):
        np.save("f.npy", few[:rows])
        for figures in judged(capsys, TRAIN).values():
            assert (figures.pop("rows"), figures.pop("queries")) == (held_out, held_out)
            assert set(figures.values()) == {None}
        assert run([*TRAIN, "--report", "r.html"]) == 0
        shown = capsys.readouterr()
        assert shown.out == "t.safetensors: deep, 64 bits\n"
        assert f"not judged: figures of {held_out} held-out regions would be chance; with at least 100" in shown.err
        assert "1.0000" not in Path("r.html").read_text("utf-8")
    np.save("f.npy", few[:100])
    assert run(TRAIN) == 0
    shown = capsys.readouterr()
    assert "judged on 20 held-out regions" in shown.out
    assert "not judged" not in shown.err


@pytest.mark.parametrize(("rows", "known"), [(101, [True, False]), (102, [True, True])])
def test_a_recall_that_can_only_be_1_is_none(rows: int, known: list[bool], capsys: pytest.CaptureFixture[str]) -> None:
    np.save("f.npy", np.load("f.npy")[:rows])
    [figures] = judged(capsys, JUDGE).values()
    assert [figures[name] is not None for name in RECALLS] == known
    assert None not in {value for name, value in figures.items() if name not in RECALLS}
    assert run([*JUDGE, "--report", "r.html"]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.endswith(f"; judged on {rows} regions")  # held out or not: it cannot know
    assert ("–" in row) != known[1]
    page = Path("r.html").read_text("utf-8")
    assert f"Judgement on {rows} regions," in page
    assert ("<td>–</td>" in page) != known[1]
    assert page.count("data:image/svg+xml;base64,") == 3


def test_a_method_that_was_better_than_the_one_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    methods = judged(capsys, TRAIN)
    recalls = {name: figures["recall_10_at_10"] for name, figures in methods.items()}
    ordered = sorted(recalls, key=recalls.get)
    best, worst = ordered[-1], ordered[0]
    assert recalls[worst] < recalls[best]
    told = f"--method {best} writes it"
    assert run([*TRAIN, "--method", worst]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{best} finds more of these regions' float neighbours than {worst}: recall@10")
    assert f"{recalls[best]:.4f}, not {recalls[worst]:.4f}" in last
    assert last.endswith(told)
    assert run([*TRAIN, "--method", best]) == 0
    assert "writes it" not in capsys.readouterr().out
    assert run(JUDGE) == 0
    assert "writes it" not in capsys.readouterr().out


def test_a_layer_without_a_bias_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own bias, one under another name (which is not found), and an ONNX product with nothing added."""
    bias = np.arange(128, dtype=np.float32)
    weight = LAYER.weight.copy()
    safetensors.numpy.save_file({"weight": weight, "bias": bias}, "own.safetensors")
    safetensors.numpy.save_file({"weight": weight, "offset": bias}, "other.safetensors")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in (("w", weight.T.copy()), ("b", bias))]
    product = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    added = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    for name, nodes in (("product", product), ("gemm", added)):
        graph = helper.make_graph(nodes, "g", value[:1], value[1:], constants)
        onnx.save(helper.make_model(graph), f"{name}.onnx")
    shape = ("--mask-dimension", "2", "--image-dimension", "3", "--out", "i.safetensors", "--format", "json")
    for name, has_one in (
        ("own.safetensors", True),
        ("other.safetensors", False),
        ("gemm.onnx", True),
        ("product.onnx", False),
    ):
        assert run(["hash", "import", name, *shape]) == 0
        shown = capsys.readouterr()
        assert (f"{name} has no bias beside its weight: 0 is taken for each bit" in shown.err) != has_one
        assert ("bias" in json.loads(shown.out)["provenance"]) != has_one
        np.testing.assert_array_equal(HashLayer.from_file(Path("i.safetensors")).bias, bias if has_one else 0 * bias)


def test_the_pages_example_runs(keeping_status: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, and with the location that the status of kept features gives."""
    page = (Path(__file__).parents[3] / "docs" / "hashing.md").read_text("utf-8")
    section = page.split("\n## From Python\n")[1].split("\n## ")[0]
    code = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    ") or not line)
    begun, _, _ = code.partition("trained = ")
    assert "open_features(location" in begun
    exec(code, {})  # noqa: S102 (our own page)
    assert HashLayer.from_file(Path("mine.safetensors")).bits == 256
    assert "recall_10_at_10" in capsys.readouterr().out
    names: dict[str, Any] = {}
    exec(begun.replace('"regions.parquet"', repr(keeping_status)), names)  # noqa: S102
    assert sum(len(batch.image) for batch in names["source"].batches()) == 120  # besides the image as a whole
