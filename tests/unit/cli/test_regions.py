"""IMAGE#REGION as it is typed: an address is one in any case of its letters, whatever files there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from searchanything.cli.prompting import PageOptions
from searchanything.cli.questions import MarkOptions, Question, words_alone
from searchanything.cli.regions import split_region
from searchanything.core.errors import IndexNotFoundError, UsageError
from searchanything.core.types import ImageRef
from searchanything.prompts.prompt import WholeImage


@pytest.mark.parametrize("scheme", ["s3", "S3"])
def test_an_address_is_no_file(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{scheme}:" / "bucket").mkdir(parents=True)
    (tmp_path / f"{scheme}:" / "bucket" / "key#3").touch()
    assert split_region(f"{scheme}://bucket/key#3") == (f"{scheme}://bucket/key", 3)
    (tmp_path / "own#3").touch()
    assert split_region("own#3") is None
    assert split_region("other#3") == ("other", 3)


class Knowing:
    """A client of an index with one object of a bucket."""

    def __init__(self, *known: ImageRef) -> None:
        self.known = known
        self.asked: list[object] = []

    def locate(self, image: str) -> ImageRef:
        if not self.known:
            raise IndexNotFoundError("nothing is indexed")
        bucket, _, key = image.partition("/")
        return next((one for one in self.known if one == ImageRef(bucket, key)), ImageRef("/home/me", image))

    def query(self, image: object, *_: object, **__: object) -> None:
        self.asked.append(image)


def ask(client: Knowing, image: str) -> object:
    assert words_alone(image, WholeImage()) is None
    question = Question(image, None, WholeImage(), None, PageOptions(), None, None, MarkOptions())
    question.ask(client)  # type: ignore[arg-type]
    return client.asked[-1]


def test_an_indexed_object_is_asked_about_with_or_without_its_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seven = ImageRef("holiday", "sea/7.jpg")
    assert ask(Knowing(seven), "holiday/sea/7.jpg") == seven
    assert ask(Knowing(seven), "s3://holiday/sea/7.jpg") == "s3://holiday/sea/7.jpg"
    for client in (Knowing(seven), Knowing()):
        with pytest.raises(UsageError, match="no such file"):
            ask(client, "holiday/sea/8.jpg")
    (tmp_path / "holiday" / "sea").mkdir(parents=True)
    with pytest.raises(UsageError, match="no such file"):
        ask(Knowing(seven), "holiday/sea/7.jpg")
    (tmp_path / "holiday" / "sea" / "7.jpg").touch()
    assert ask(Knowing(seven), "holiday/sea/7.jpg") == "holiday/sea/7.jpg"
