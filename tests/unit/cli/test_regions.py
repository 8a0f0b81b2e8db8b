"""IMAGE#REGION as it is typed: an address is one in any case of its letters, whatever files there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from searchanything.cli.regions import split_region


@pytest.mark.parametrize("scheme", ["s3", "S3"])
def test_an_address_is_no_file(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{scheme}:" / "bucket").mkdir(parents=True)
    (tmp_path / f"{scheme}:" / "bucket" / "key#3").touch()
    assert split_region(f"{scheme}://bucket/key#3") == (f"{scheme}://bucket/key", 3)
    (tmp_path / "own#3").touch()
    assert split_region("own#3") is None
    assert split_region("other#3") == ("other", 3)
