"""A prefix or folder that holds nothing is said so, ends with 3, and makes no index."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from searchanything.cli.app import run
from searchanything.cli.failures import SOME_IMAGES_FAILED
from searchanything.client.client import Client
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.settings import Settings


def made(uri: str) -> Client:
    settings = Settings()
    settings.milvus.uri, settings.models.preset = uri, "pico"
    return Client(settings)


@pytest.mark.parametrize("output", ["text", "json"])
def test_nothing_there_is_no_success_and_makes_no_index(output: str, tmp_path: Path, capsys) -> None:
    with made("memory://nothing-there") as one:
        code = run(["index", str(tmp_path), "--format", output], connect=lambda *_: one)
        assert code == SOME_IMAGES_FAILED
        assert f"nothing under {tmp_path}: 0 objects" in capsys.readouterr().err
        assert not one.status().exists


def test_the_total_is_told_with_the_first_images(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (64, 48), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("x")
    told = []
    with made("memory://totals") as one:
        one.index(tmp_path, progress=told.append)
    assert (told[-1].done, told[-1].total, told[-1].total_is_final) == (3, 3, True)
    assert [(one.done, bool(one.stage)) for one in told[:2]] == [(0, True), (0, False)]  # loading, then before a batch


def test_what_a_listing_left_out_is_told_although_it_gave_nothing(tmp_path: Path, capsys) -> None:
    (tmp_path / "._a.jpg").write_bytes(b"x")
    (tmp_path / "away.jpg").symlink_to(tmp_path.parent / "elsewhere.jpg")
    with made("memory://left-out") as one:
        assert run(["index", str(tmp_path)], connect=lambda *_: one) == SOME_IMAGES_FAILED
        printed = capsys.readouterr()
    assert "2 skipped" in printed.out
    assert "away.jpg" in printed.out
    assert "nothing under" not in printed.err


def test_failures_tried_again_know_their_total(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    Image.new("RGB", (64, 48)).save(tmp_path / "good.png")
    told = []
    with made("memory://retries") as one:
        one.index(tmp_path)
        one.retry_failed(tmp_path, progress=told.append)
    assert (told[-1].done, told[-1].total, told[-1].failed) == (3, 3, 3)


def files(folder: Path, **kinds: int) -> None:
    for suffix, count in kinds.items():
        for number in range(count):
            (folder / f"{number}.{suffix}").write_bytes(b"x")


@pytest.mark.parametrize(
    ("kinds", "arguments", "said"),
    [
        ({"txt": 118, "pdf": 2}, [], ": 118 .txt, 2 .pdf; if .txt are images all the same: --include '*.txt'"),
        ({"cr2": 3, "TXT": 1}, [], ": 3 .cr2, 1 .txt; convert .cr2 to JPEG, PNG or TIFF; if .txt are images"),
        ({"png": 2}, ["--exclude", "*.png"], ": 2 .png; check --include and --exclude"),
        ({"a1": 1, "b2": 1, "c3": 1, "d4": 1, "e5": 1, "f6": 1, "g7": 1}, [], "1 .e5, 2 others; if .a1"),
    ],
)
def test_what_is_no_image_is_told_by_kind_and_makes_no_index(
    kinds: dict[str, int], arguments: list[str], said: str, tmp_path: Path, capsys
) -> None:
    files(tmp_path, **kinds)
    with made(f"memory://no-image-{'-'.join(kinds)}") as one:
        for verb in (["index"], ["sync", "repair"]):
            assert run([*verb, str(tmp_path), *arguments], connect=lambda *_: one) == SOME_IMAGES_FAILED
            printed = capsys.readouterr()
            total = sum(kinds.values())
            assert f"{total} files under {tmp_path}, none is an image" in printed.err
            assert said in printed.err
            assert "skipped: " in printed.out
            assert not one.status().exists


def test_a_name_without_a_suffix_is_looked_into_before_an_index_is_made(tmp_path: Path, capsys) -> None:
    (tmp_path / "0a1b2c").write_bytes(b"no image")
    with made("memory://no-suffix") as one:
        assert run(["index", str(tmp_path)], connect=lambda *_: one) == SOME_IMAGES_FAILED
        assert f"1 file under {tmp_path}, which is no image: 1 without a suffix" in capsys.readouterr().err
        assert not one.status().exists
        Image.new("RGB", (64, 48)).save(tmp_path / "1f2e3d", format="PNG")
        assert run(["index", str(tmp_path)], connect=lambda *_: one) == 0
        assert "1 skipped" in capsys.readouterr().out


def test_what_comes_before_the_first_image_is_in_the_report(tmp_path: Path) -> None:
    files(tmp_path, txt=300)  # more than are looked at together
    Image.new("RGB", (64, 48)).save(tmp_path / "z.png")
    (tmp_path / "zz.pdf").write_bytes(b"x")
    with made("memory://late-image") as one:
        first, second = one.index(tmp_path), one.index(tmp_path)
    assert (first.skipped, second.skipped) == (301, 301)
    assert first.indexed + first.empty == 1
    assert [dict(group.suffixes) for group in first.skips] == [{".txt": 300, ".pdf": 1}]
    assert [group.to_dict() for group in first.skips] == [group.to_dict() for group in second.skips]


def test_an_emptied_folder_that_is_indexed_says_what_is_left(tmp_path: Path, capsys) -> None:
    image = tmp_path / "a.png"
    Image.new("RGB", (64, 48)).save(image)
    (tmp_path / "notes.txt").write_text("x")
    with made("memory://emptied") as one:
        assert run(["index", str(tmp_path)], connect=lambda *_: one) == 0
        image.unlink()
        capsys.readouterr()
        assert run(["index", str(tmp_path)], connect=lambda *_: one) == SOME_IMAGES_FAILED
        printed = capsys.readouterr()
        assert "which is no image: 1 .txt" in printed.err
        assert "gone: 1 indexed image is no longer there" in printed.out
        assert one.status().exists


def test_a_folder_that_cannot_be_looked_into_is_a_failure_not_an_answer(tmp_path: Path, capsys, monkeypatch) -> None:
    from searchanything.stores.folder import FolderStore

    files(tmp_path, txt=1)
    real = FolderStore.list

    def listing(self, prefix="", omissions=None):
        yield from real(self, prefix, omissions)
        omissions.miss("closed/", "Permission denied")

    monkeypatch.setattr(FolderStore, "list", listing)
    with made("memory://closed") as one:
        assert run(["index", str(tmp_path)], connect=lambda *_: one) == SOME_IMAGES_FAILED
        assert "none is an image" not in capsys.readouterr().err
        assert not one.status().exists


def test_keys_of_a_folder_that_is_not_there_are_refused_and_make_no_index(tmp_path: Path) -> None:
    """Its name may be mistyped. Of a folder that is there, keys that are not there are no news."""
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    with made("memory://mistyped") as one:
        with pytest.raises(ObjectNotFoundError, match="no such folder"):
            one.refresh(tmp_path / "mistyped", ["a.png"])
        assert not one.status().exists
        assert not one.refresh(tmp_path, ["a.png"]).found_no_image
        with pytest.raises(ObjectNotFoundError, match="no such folder"):
            one.refresh(tmp_path / "mistyped", ["a.png"])
        assert one.refresh(tmp_path, ["b.png", "notes.txt"]).found_no_image
