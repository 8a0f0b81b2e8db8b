"""`searchanything tune` as it is typed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from searchanything.cli.app import run
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.extras import install_command
from searchanything.ingest.reports import OnProgress
from searchanything.prompts.prompt import Points
from searchanything.stores import tuning

DOCUMENT = {
    "regions": 5000,
    "codes": 5000,
    "top": 10,
    "recall": 0.9,
    "questions": None,
    "hint": "",
    "trials": [
        {"kind": "BIN_IVF_FLAT", "settings": {"nlist": 64, "nprobe": 4}, "recall": 0.93, "ms": 0.04, "reached": True},
        {"kind": "BIN_FLAT", "settings": {}, "recall": 1.0, "ms": 0.2, "reached": True},
        {"kind": "HNSW", "settings": {"hnsw_m": 16, "ef": 4096}, "recall": 0.8, "ms": 2.0, "reached": False},
    ],
    "use": "SEARCHANYTHING_MILVUS__INDEX_TYPE=BIN_IVF_FLAT SEARCHANYTHING_MILVUS__NLIST=64",
}


class Tuned(Client):
    """A client whose index was tuned before."""

    def __init__(self, asked: list[object]) -> None:
        self.__dict__ = connect("memory://", preset="pico").__dict__
        self._asked = asked

    @property
    def operations(self) -> Tuned:  # type: ignore[override]
        return self

    def tune(
        self,
        *,
        recall: float = 0.95,
        top: int = 100,
        codes: int = 1_000_000,
        questions: Iterable[object] | None = None,
        progress: OnProgress | None = None,
    ) -> dict[str, object]:
        self._asked.append({"recall": recall, "top": top, "codes": codes})
        assert progress is not None
        if questions is None:
            return DOCUMENT
        self._asked += questions
        return {**DOCUMENT, "questions": 2, "hint": "two are too few"}


def test_it_says_recall_milliseconds_and_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[object] = []
    code = run(["tune", "--recall", "0.9", "--top", "10"], connect=lambda _uri, _preset: Tuned(asked))
    shown = capsys.readouterr().out
    assert code == 0
    assert asked == [{"recall": 0.9, "top": 10, "codes": 1_000_000}]
    assert "nlist 64, nprobe 4" in shown
    assert "0.800, below the goal" in shown
    assert "for a new index on a Milvus server: SEARCHANYTHING_MILVUS__INDEX_TYPE=BIN_IVF_FLAT" in shown


def test_questions_are_those_of_a_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(b"read by the models alone")
    Path("list.csv").write_text('id,image,point,text\nred,a.png,"20,30",\nodd,a.png,"1,x",\nempty,,,\n,,,a boat\n')
    asked: list[object] = []
    code = run(["tune", "--questions", "list.csv"], connect=lambda _uri, _preset: Tuned(asked))
    shown = capsys.readouterr()
    assert code == 0
    assert asked[1:] == [("a.png", Points([(20, 30)])), "a boat"]
    assert "5,000 of 5,000 codes, top 10, goal 0.9, asked by 2 questions" in shown.out
    assert "two are too few" in shown.out
    assert "question odd is left out: point: expected X,Y" in shown.err
    assert "question empty is left out: expected an image, or a text alone" in shown.err


def test_without_faiss_it_says_how_to_install_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tuning, "faiss", lambda: None)
    monkeypatch.chdir(tmp_path)

    class Bare(Client):
        def __init__(self) -> None:
            self.__dict__ = connect("memory://", preset="pico").__dict__

        @property
        def operations(self) -> Bare:  # type: ignore[override]
            return self

        def tune(
            self,
            *,
            recall: float = 0.95,
            top: int = 100,
            codes: int = 1_000_000,
            questions: Iterable[object] | None = None,
            progress: OnProgress | None = None,
        ) -> dict[str, object]:
            assert progress is not None
            assert questions is None
            from contracts.index_rows import manifest_of

            from searchanything.stores.memory import MemoryRegionIndex

            return tuning.tune_index(MemoryRegionIndex(manifest_of("f" * 64)), recall=recall, top=top, codes=codes)

    code = run(["tune", "--format", "json"], connect=lambda _uri, _preset: Bare())
    assert code in (1, 2)
    assert install_command("faiss") in json.loads(capsys.readouterr().out)["error"]["message"]
