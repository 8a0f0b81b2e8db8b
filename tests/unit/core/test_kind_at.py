"""What lies at a path that is named, on each Python: whether it is known is told apart from whether it is there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from searchanything.core.errors import SettingsError
from searchanything.core.reading import kind_at


def test_kinds(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    names = ("file", "link", ".", "pipe", "dangling", "nothing", "file/below")
    found = [kind_at(tmp_path / name, "a thing") for name in names]
    assert found == ["file", "file", "folder", "other", None, None, None]


@pytest.mark.parametrize(
    ("name", "why"), [("long" * 100, "File name too long"), ("a\0b", "embedded null"), ("loop", "symbolic links")]
)
def test_what_no_path_can_be(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SettingsError, match=f"expected a thing: .*{why}"):
        kind_at(tmp_path / name, "a thing", raised=SettingsError)


CLOSED = """
import os, sys
from pathlib import Path
from searchanything.backup.files import TarPlace
from searchanything.cli.index import hash_choice
from searchanything.cli.session import check_image
from searchanything.core.errors import SearchAnythingError
from searchanything.core.files import check_save_path
from searchanything.core.settings_files import settings_files
from searchanything.models.hashing import HashLayer
from searchanything.models.presets import fetch_statuses
from searchanything.models.weights import digest_of
from searchanything.stores.folder import FolderStore
from searchanything.stores.sources import parse_source
if os.geteuid() == 0:
    os.setuid(65534)  # permissions mean nothing to root
path = Path(sys.argv[1], "closed", "thing.png")
def configured(**variables):
    os.environ |= variables
    settings_files()
asked = {
    "source": lambda: parse_source(path),
    "listing": lambda: list(FolderStore(path).list()),
    "image": lambda: check_image(str(path)),
    "hash": lambda: hash_choice(str(path)),
    "layer": lambda: HashLayer.from_file(path),
    "weights": lambda: digest_of(path),
    "models": lambda: fetch_statuses(path),
    "backup": lambda: list(TarPlace(path).members()),
    "saved": lambda: check_save_path(path),
    "named settings": lambda: configured(SEARCHANYTHING_ENV_FILE=str(path)),
    "own settings": lambda: configured(XDG_CONFIG_HOME=str(path)),
}
for name, ask in asked.items():
    try:
        print(name, "said nothing", ask())
    except SearchAnythingError as error:
        print(f"{name}: {error}")
"""


def test_below_a_closed_folder_it_is_permission_that_lacks() -> None:
    """Python up to 3.13 raised PermissionError here, which no caller took; from 3.14 on there was "no such file"."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        closed = Path(folder, "closed")
        closed.mkdir(mode=0)
        command = [sys.executable, "-c", CLOSED, folder]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=120, env=os.environ | {"HOME": folder}
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 11
        assert [
            one for one in lines if "expected" not in one or f"Permission denied: '{closed}/thing.png" not in one
        ] == []
