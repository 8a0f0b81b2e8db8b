"""Regions of a COCO file, written into sidecars: what is written, what stays, what is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from searchanything import wiring
from searchanything.cli.app import run
from searchanything.core.errors import StoreUnavailableError
from searchanything.core.protocols import FileStore
from searchanything.core.settings import Settings
from searchanything.images.coco_regions import NamedImage
from searchanything.images.given_regions import read_given_regions
from searchanything.images.scopes import Patterns
from searchanything.ingest.sidecar_files import SidecarOutcome

BOX = {"bbox": [1, 2, 3, 4]}


class AwayAfter:
    """Files of a place that cannot be reached any more after some of them."""

    def __init__(self, files: FileStore, written: int) -> None:
        self._files, self._left, self.asked = files, written, 0

    def write(self, name: str, data: bytes) -> None:
        self.asked += 1
        if self.asked > self._left:
            raise StoreUnavailableError("away")
        self._files.write(name, data)


def write(source: str | Path, *images: NamedImage, settings: Settings | None = None) -> list[SidecarOutcome]:
    files = wiring.open_sidecar_files(source, settings or Settings(_env_file=None))
    done: list[tuple[int, int]] = []
    outcomes = files.write(images, threads=2, progress=lambda *step: done.append(step))
    written = sum(one.outcome not in ("not found", "ambiguous") for one in outcomes)
    assert done[-1:] == ([(written, written)] if written else [])
    return outcomes


def folder_of(place: Path, *names: str) -> Path:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"")
    return place


def document(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_other_names_stay_and_what_does_not_change_is_not_written(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "s", "a.jpg", "deep/ü b.jpg")
    beside = source / "a.jpg.json"
    beside.write_bytes(b"\xef\xbb\xbf" + '{"city": "Köln", "regions": 5}'.encode())
    images = NamedImage("a.jpg", [BOX, BOX]), NamedImage("deep/ü b.jpg", [BOX])
    outcomes = write(source, *images)
    assert [(one.name, one.outcome, one.regions) for one in outcomes] == [
        ("a.jpg.json", "written", 2),
        ("deep/ü b.jpg.json", "written", 1),
    ]
    assert document(beside) == {"city": "Köln", "regions": [BOX, BOX]}
    assert "Köln" in beside.read_text("utf-8")  # as people read it
    assert document(source / "deep/ü b.jpg.json") == {"regions": [BOX]}
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*.json")}
    assert [one.outcome for one in write(source, *images)] == ["unchanged", "unchanged"]
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*") if path.suffix == ".json"} == before


def test_an_image_without_regions_has_none_any_more(tmp_path: Path) -> None:
    source = folder_of(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (source / "a.jpg.json").write_text('{"city": "Bonn", "regions": [{"bbox": [1, 2, 3, 4]}]}')
    (source / "c.jpg.json").write_text('{"city": "Trier"}')
    outcomes = write(source, *(NamedImage(f"{name}.jpg") for name in "abc"))
    assert [one.outcome for one in outcomes] == ["regions removed", "without regions", "without regions"]
    assert [document(source / f"{name}.jpg.json") for name in "ac"] == [{"city": "Bonn"}, {"city": "Trier"}]
    assert not (source / "b.jpg.json").exists()


def test_what_names_no_image_or_several_is_said_and_nothing_written(tmp_path: Path) -> None:
    source = folder_of(tmp_path, "a.jpg", "x/c.jpg", "y/c.jpg", "a.txt")
    images = [NamedImage(name, [BOX]) for name in ("c.jpg", "none.jpg", "a.txt", "a.jpg", "z/a.jpg")]
    outcomes = {one.name: one for one in write(source, *images)}
    found = {name: one.outcome for name, one in outcomes.items()}
    assert found == dict.fromkeys(("none.jpg", "a.txt"), "not found") | dict.fromkeys(
        ("c.jpg", "a.jpg", "z/a.jpg"), "ambiguous"
    )
    assert outcomes["c.jpg"].problem == "can be each of 2 images, such as x/c.jpg and y/c.jpg"
    assert outcomes["a.jpg"].problem == "2 images of the file can be this one"
    assert not list(source.rglob("*.json"))


def test_a_sidecar_that_is_none_stays_as_it_is_and_others_are_written(tmp_path: Path) -> None:
    source, settings = folder_of(tmp_path, *(f"{name}.jpg" for name in "abcdefgh")), Settings(_env_file=None)
    settings.storage.max_object_bytes = 2**21
    full = json.dumps({"city": "x" * 2**20, "regions": [BOX]}).encode()
    contents = {"a": b"{", "b": b"[1]", "c": b"[" * 100_000, "e": full, "f": b'{"heat": NaN}', "g": b" " * 2**22}
    for name, content in contents.items():
        (source / f"{name}.jpg.json").write_bytes(content)
    (source / "h.jpg.json").mkdir()
    outcomes = write(source, *(NamedImage(f"{name}.jpg", [BOX]) for name in "abcdefgh"), settings=settings)
    assert [one.outcome for one in outcomes] == ["failed"] * 3 + ["written"] + ["failed"] * 4
    assert all(one.problem for one in outcomes if one.outcome == "failed")
    assert "no region fits in" in outcomes[4].problem
    assert {name: (source / f"{name}.jpg.json").read_bytes() for name in contents} == contents


def test_a_sidecar_never_gets_larger_than_one_that_is_read(tmp_path: Path) -> None:
    """Whether its only region fits in is a matter of bytes."""
    source, outcomes = folder_of(tmp_path, "a.jpg"), set[str]()
    beside = source / "a.jpg.json"
    for spare in range(40, 100, 4):
        beside.write_text('{"city": "Ulm"}')
        [outcome] = write(source, NamedImage("a.jpg", [{**BOX, "note": "x" * (2**20 - spare)}]))
        outcomes.add(outcome.outcome)
        assert beside.stat().st_size <= 2**20
    assert outcomes == {"written", "failed"}


def test_the_images_that_are_done_are_counted(tmp_path: Path) -> None:
    names, steps = [f"{number}.jpg" for number in range(20)], list[tuple[int, int]]()
    files = wiring.open_sidecar_files(folder_of(tmp_path, *names), Settings(_env_file=None))
    files.write([NamedImage(name, [BOX]) for name in names], threads=2, progress=lambda *step: steps.append(step))
    assert steps == [(8, 20), (16, 20), (20, 20)]


def test_a_sidecar_that_is_newer_than_the_listing_keeps_its_names(tmp_path: Path) -> None:
    """A bucket of millions is listed for an hour; a sidecar that came meanwhile was written over."""
    source = folder_of(tmp_path, "a.jpg", "b.jpg")
    files = wiring.open_sidecar_files(source, Settings(_env_file=None))

    class Meanwhile:
        """Files of which one is written by somebody else as soon as another is."""

        def write(self, name: str, data: bytes) -> None:
            files.files.write(name, data)
            if name == "a.jpg.json":
                files.files.write("b.jpg.json", b'{"city": "Kassel"}')

    slow: Any = Meanwhile()
    replace(files, files=slow).write(
        [NamedImage("a.jpg", [BOX]), NamedImage("b.jpg", [BOX])], threads=1, progress=lambda *_: None
    )
    assert document(source / "b.jpg.json") == {"city": "Kassel", "regions": [BOX]}


@pytest.mark.parametrize(("corners", "kept"), [(2, 1000), (200, 400)])
def test_the_largest_of_too_many_are_kept_and_can_be_read(tmp_path: Path, corners: int, kept: int) -> None:
    source = folder_of(tmp_path, "a.jpg")
    beside = source / "a.jpg.json"
    beside.write_text(json.dumps({"city": "x" * 30_000}))
    regions = [
        {"bbox": [0, 0, 10, 10], "segmentation": [[0, 0, 10, 0, *[9.125, 9.125] * corners]], "number": number}
        for number in range(1500)
    ]
    [outcome] = write(source, NamedImage("a.jpg", regions))
    found = document(beside)["regions"]
    assert [one["number"] for one in found] == list(range(outcome.regions))
    assert kept <= outcome.regions <= 1000
    assert beside.stat().st_size <= 2**20
    assert outcome.problem.startswith(f"{1500 - outcome.regions:,} regions left out, the smallest")
    assert write(source, NamedImage("a.jpg", regions)) == [replace(outcome, outcome="unchanged")]
    assert read_given_regions(found, (30, 40))[1] == ""


def test_after_an_error_of_the_store_little_more_is_written(tmp_path: Path) -> None:
    """Of a store that is away nothing else is asked: each question would wait for its time to be up."""
    source = folder_of(tmp_path, *(f"{number:03}.jpg" for number in range(200)))
    files = wiring.open_sidecar_files(source, Settings(_env_file=None))
    away = AwayAfter(files.files, 5)
    with pytest.raises(StoreUnavailableError):
        replace(files, files=away).write(
            [NamedImage(f"{number:03}.jpg", [BOX]) for number in range(200)], threads=2, progress=lambda *_: None
        )
    assert len(list(source.glob("*.json"))) == 5
    assert away.asked <= 8


def test_suffix_and_patterns_are_those_of_the_settings(tmp_path: Path) -> None:
    source, settings = folder_of(tmp_path, "a.jpg", "b.jpg"), Settings(_env_file=None)
    settings.ingest.sidecar_suffix = ".meta"
    files = wiring.open_sidecar_files(source, settings, Patterns(exclude=("b*",)))
    outcomes = files.write(
        [NamedImage("a.jpg", [BOX]), NamedImage("b.jpg", [BOX])], threads=1, progress=lambda *_: None
    )
    assert sorted((one.name, one.outcome) for one in outcomes) == [("a.jpg.meta", "written"), ("b.jpg", "not found")]


def test_the_command_says_what_was_done_and_what_is_to_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, file = folder_of(tmp_path / "s", "a.jpg", "b.jpg"), tmp_path / "coco.json"
    images = [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate("abc")]
    good, bad = {"image_id": 0, **BOX}, {"image_id": 0, "bbox": [1, 2, 3]}
    file.write_text(json.dumps({"images": images, "annotations": [good]}))
    assert run(["sidecars", str(file), str(source)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "1 written, 0 unchanged, 0 regions removed, 1 without regions, 1 not found; 1 region in sidecars",
        "not found: c.jpg",
    ]
    missing = "SEARCHANYTHING_INGEST__SIDECAR_SUFFIX=.json SEARCHANYTHING_INGEST__REGIONS_FROM=sidecar"
    assert f"export {missing}" in err
    assert run(["sidecars", str(file), str(source)]) == 0  # nothing is written again
    assert "export" not in capsys.readouterr().err
    for setting in missing.split():
        monkeypatch.setenv(*setting.split("="))
    file.write_text(json.dumps({"images": images, "annotations": [good, good, bad]}))
    assert run(["sidecars", str(file), str(source), "--format", "json"]) == 3
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert (answer["images"]["written"], answer["regions"], answer["not_found"]) == (1, 2, ["c.jpg"])
    assert answer["problems"][0].startswith("annotations[2]: bbox")
    assert "export" not in err
    assert run(["sidecars", str(file), str(folder_of(tmp_path / "other", "z.jpg"))]) == 3


def test_results_become_sidecars_of_the_images_that_another_file_names(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "s", "a.jpg", "b.jpg")
    (source / "b.jpg.json").write_text(stays := '{"regions": [{"bbox": [9, 9, 9, 9]}]}')
    images = [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate("ab")]
    (tmp_path / "instances.json").write_text(json.dumps({"images": images, "annotations": []}))
    (tmp_path / "results.json").write_text(json.dumps([{"image_id": 0, "category_id": 1, "score": 0.5, **BOX}]))
    files = str(tmp_path / "results.json"), str(source), "--annotations", str(tmp_path / "instances.json")
    assert run(["sidecars", *files]) == 0
    assert document(source / "a.jpg.json") == {"regions": [{**BOX, "score": 0.5}]}
    assert (source / "b.jpg.json").read_text() == stays, "results say nothing of it"


def test_links_and_modes_of_sidecars_stay(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "s", "a.jpg", "b.jpg", "c.jpg")
    for name, mode in (("real.txt", 0o640), ("b.jpg.json", 0o604)):
        (source / name).write_text('{"city": "Köln"}')
        (source / name).chmod(mode)
    (outside := tmp_path / "outside.json").write_text('{"city": "Bonn"}')
    (source / "a.jpg.json").symlink_to("real.txt")
    (source / "c.jpg.json").symlink_to(outside)
    outcomes = {one.name: one for one in write(source, *(NamedImage(f"{name}.jpg", [BOX]) for name in "abc"))}
    assert (source / "a.jpg.json").is_symlink()
    for name, mode in (("real.txt", 0o640), ("b.jpg.json", 0o604)):
        assert document(source / name) == {"city": "Köln", "regions": [BOX]}
        assert (source / name).stat().st_mode & 0o777 == mode
    assert outcomes["c.jpg.json"].outcome == "failed"
    assert "a link to something else than a file of this folder" in outcomes["c.jpg.json"].problem
    assert document(source / "c.jpg.json") == document(outside) == {"city": "Bonn"}


@pytest.mark.parametrize("target", ["shared.json", "b.jpg.json"])
def test_no_image_gets_the_regions_of_another_by_a_link(tmp_path: Path, target: str) -> None:
    source = folder_of(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (source / target).write_text('{"licence": "CC0"}')
    for name in {"a.jpg.json", "b.jpg.json"} - {target}:
        (source / name).symlink_to(target)
    files = wiring.open_sidecar_files(source, Settings(_env_file=None))
    images = [NamedImage(f"{name}.jpg", [BOX]) for name in "abc"]
    outcomes = {one.name: one for one in files.write(images, threads=2, progress=lambda *_: None)}
    assert [outcomes[f"{name}.jpg.json"].outcome for name in "abc"] == ["failed", "failed", "written"]
    assert "another image's as well" in outcomes["a.jpg.json"].problem
    assert document(source / target) == {"licence": "CC0"}


def test_a_problem_of_one_image_is_the_exit_code_of_a_run_that_wrote_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, file = folder_of(tmp_path / "s", "a.jpg", "b.jpg"), tmp_path / "coco.json"
    (source / "b.jpg.json").write_text("{")
    images = [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate("ab")]
    file.write_text(json.dumps({"images": images, "annotations": [{"image_id": at, **BOX} for at in (0, 1)]}))
    assert run(["sidecars", str(file), str(source)]) == 3
    assert capsys.readouterr().out.splitlines()[1].startswith("left out: b.jpg.json: is left as it is")
    assert document(source / "a.jpg.json") == {"regions": [BOX]}


def test_a_dry_run_writes_nothing_and_says_what_would_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, file = folder_of(tmp_path / "s", "a.jpg", "b.jpg", "c.jpg"), tmp_path / "coco.json"
    (source / "b.jpg.json").write_text('{"regions": [{"bbox": [9, 9, 9, 9]}]}')
    before = {path: path.read_bytes() for path in source.iterdir()}
    images = [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate("abc")]
    file.write_text(json.dumps({"images": images, "annotations": [{"image_id": 0, **BOX}]}))
    assert run(["sidecars", str(file), str(source), "--dry-run"]) == 0
    counts = "1 written, 0 unchanged, 1 regions removed, 1 without regions, 0 not found; 1 region in sidecars"
    assert capsys.readouterr().out == f"nothing is written; would be: {counts}\n"
    assert {path: path.read_bytes() for path in source.iterdir()} == before
    assert run(["sidecars", str(file), str(source), "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["dry_run"], answer["images"]["written"], answer["images"]["regions removed"]) == (False, 1, 1)
    assert document(source / "b.jpg.json") == {}


def test_a_file_without_any_region_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, file = folder_of(tmp_path / "s", "a.jpg"), tmp_path / "coco.json"
    file.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}))
    assert run(["sidecars", str(file), str(source)]) == 3
    assert capsys.readouterr().out.startswith("0 written, 0 unchanged, 0 regions removed, 1 without regions,")
