"""Parts of libraries that are imported when they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from searchanything.core.put_off import put_off

LIBRARY = """
from heavy import Frame, is_frame
from heavy.parts import Part
import heavy as h

def same(frame: Frame | None, other: "h.Frame") -> bool:
    return isinstance(frame, (Frame, int)) and is_frame(other)

class Kept:
    kind: Frame | Part
"""
HEAVY = """
import sys
sys.loaded_heavy = getattr(sys, "loaded_heavy", 0) + 1
class Frame:
    def __init__(self, size): self.size = size
    @classmethod
    def empty(cls): return cls(0)
class Long(Frame): pass
def is_frame(one): return isinstance(one, Frame)
"""


@pytest.fixture(autouse=True)
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy" / "__init__.py").write_text(HEAVY)
    (tmp_path / "heavy" / "parts.py").write_text("class Part: pass\n")
    (tmp_path / "user_of_heavy.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "loaded_heavy", 0, raising=False)
    for name in ("heavy", "heavy.parts", "user_of_heavy"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_what_a_library_imports_is_found_at_its_first_use() -> None:
    with put_off("heavy", "heavy.parts"):
        import user_of_heavy as user
    assert sys.loaded_heavy == 0
    assert "heavy" not in sys.modules
    assert not user.same(None, None)  # nothing can be an instance of a class that is not there
    assert sys.loaded_heavy == 0
    frame = user.Frame(3)
    assert frame.size == 3
    assert user.Frame.empty().size == 0
    assert user.same(frame, frame)
    assert not user.same(3, 3)
    import heavy

    assert type(frame) is heavy.Frame
    assert isinstance(frame, user.Frame)
    assert issubclass(heavy.Long, user.Frame)
    assert not issubclass(int, user.Frame)
    assert user.h.Frame is heavy.Frame  # by the module that was stood in for
    assert sys.loaded_heavy == 1


def test_what_is_used_while_it_is_put_off_is_imported_at_once() -> None:
    with put_off("heavy"):
        from heavy import Frame

        assert Frame(2).size == 2
        assert sys.modules["heavy"].Frame(1).size == 1
    assert sys.loaded_heavy == 1


def test_what_is_there_already_is_left_alone() -> None:
    import heavy

    with put_off("heavy"):
        assert sys.modules["heavy"] is heavy
    assert sys.modules["heavy"] is heavy


def test_what_is_not_installed_is_still_missing() -> None:
    with put_off("no_such_library", "no_such_library.parts"), pytest.raises(ModuleNotFoundError):
        import no_such_library.parts  # noqa: F401


def test_an_error_in_the_block_takes_the_stand_ins_away() -> None:
    with pytest.raises(ZeroDivisionError), put_off("heavy"):
        _ = 1 / 0
    assert "heavy" not in sys.modules


def test_inspection_is_no_use() -> None:
    with put_off("heavy"):
        import heavy
    assert not hasattr(heavy, "__file__")
    assert sys.loaded_heavy == 0


def test_pymilvus_finds_pandas_when_it_is_used() -> None:
    code = """
import sys
from searchanything.stores.milvus_library import MilvusClient
assert not {"pandas", "requests"} & set(sys.modules), "imported"
from pymilvus.orm.schema import is_valid_insert_data
from pymilvus.orm.types import infer_dtype_bydata
print(infer_dtype_bydata([1.0, 2.0]).name)
import pandas
print(is_valid_insert_data(pandas.DataFrame()))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.stderr == ""
    assert answer.stdout.split() == ["FLOAT_VECTOR", "True"]
