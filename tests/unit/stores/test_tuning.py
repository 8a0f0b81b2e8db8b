"""`tune`: the settings that it names reach the goal, by a count of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from contracts.index_rows import manifest_of, region_row

from searchanything.core.errors import UsageError
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import Codes, ImageRef
from searchanything.stores import scans, tuning
from searchanything.stores.memory import MemoryRegionIndex
from searchanything.stores.milvus_connection import MAX_EF, MAX_NPROBE, MilvusConnection
from searchanything.stores.milvus_making import CollectionMaker


def clustered(count: int, seed: int = 0) -> Codes:
    random = np.random.default_rng(seed)
    centres = random.integers(0, 256, (40, 32), dtype=np.uint8)
    noise = [random.integers(0, 256, (count, 32), dtype=np.uint8) for _ in range(3)]
    return centres[random.integers(0, 40, count)] ^ (noise[0] & noise[1] & noise[2])


def test_the_settings_reach_the_goal() -> None:
    faiss = pytest.importorskip("faiss")
    codes = clustered(1500)
    trials = tuning.tune(codes, top=10, goal=0.9, queries=50)
    assert {one.kind for one in trials} == {"BIN_FLAT", "BIN_IVF_FLAT", "HNSW"}
    assert [one.ms for one in trials if one.reached] == sorted(one.ms for one in trials if one.reached)
    found = next(one for one in trials if one.kind == "BIN_IVF_FLAT" and one.reached)
    lists = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(256), 256, found.settings["nlist"])
    faiss.omp_set_num_threads(1)
    lists.train(codes)
    lists.add(codes)
    lists.nprobe = found.settings["nprobe"]
    asked = codes[::50]
    distances, _ = lists.search(asked, 10)
    by_hand = np.array([sorted(np.bitwise_count(codes ^ one).sum(axis=1))[9] for one in asked])
    assert (distances <= by_hand[:, None]).mean() > 0.85


def test_a_goal_out_of_reach_is_told() -> None:
    pytest.importorskip("faiss")
    random = np.random.default_rng(1).integers(0, 256, (1200, 32), dtype=np.uint8)
    trials = tuning.tune(random, top=10, goal=1.0, queries=20)
    assert trials[-1].reached or trials[-1].recall < 1.0
    lists = [one for one in trials if one.kind == "BIN_IVF_FLAT"]
    assert all(one.recall == 1.0 and one.settings["nprobe"] <= one.settings["nlist"] for one in lists)


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    with pytest.raises(UsageError, match="at least 1000 codes, got 5"):
        tuning.tune(clustered(5))
    monkeypatch.setattr(tuning, "faiss", lambda: None)
    with pytest.raises(UsageError, match=r"pip install .*\[faiss\]'"):
        tuning.tune(clustered(2000))
    assert scans.faiss is not tuning.faiss


def test_the_document_of_an_index() -> None:
    pytest.importorskip("faiss")
    index = MemoryRegionIndex(manifest_of("f" * 64))
    codes = clustered(1500)
    index.insert_regions(
        [region_row(ImageRef("b", str(at)), generation=1, code=one.tobytes()) for at, one in enumerate(codes)]
    )
    document = tuning.tune_index(index, recall=0.9, top=5, codes=10_000)
    assert (document["regions"], document["codes"]) == (1500, 1500)
    assert document["use"].startswith("SEARCHANYTHING_MILVUS__INDEX_TYPE=")
    MilvusSettings(
        **{
            name.removeprefix("SEARCHANYTHING_MILVUS__").lower(): value
            for name, value in (one.split("=") for one in document["use"].split())
        }
    )


def test_questions_are_asked_in_place_of_codes_of_the_index() -> None:
    pytest.importorskip("faiss")
    index = MemoryRegionIndex(manifest_of("f" * 64))
    codes = clustered(1500)
    index.insert_regions(
        [region_row(ImageRef("b", str(at)), generation=1, code=one.tobytes()) for at, one in enumerate(codes)]
    )
    far = np.random.default_rng(3).integers(0, 256, (80, 32), dtype=np.uint8)
    tried = {
        name: tuning.tune_index(index, recall=0.9, top=5, codes=10_000, asked=lambda asked=asked: asked)
        for name, asked in {"index": None, "near": codes[:80], "far": far, "few": far[:20]}.items()
    }
    assert {name: one["questions"] for name, one in tried.items()} == {"index": None, "near": 80, "far": 80, "few": 20}
    lists = {
        name: [t["settings"]["nprobe"] for t in one["trials"] if "nprobe" in t["settings"]]
        for name, one in tried.items()
    }
    assert lists["near"][0] < lists["far"][0], "what lies far from all lists needs more of them"
    assert [name for name, one in tried.items() if one["hint"]] == ["few"]
    assert tried["few"]["hint"] == (
        "20 questions cannot show a recall of 0.9: even where all hits of these are found, "
        "that of others may be 0.839 (95 % interval)"
    )


def test_it_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(tuning, "_CODES_AT_ONCE", 1000)
    index = MemoryRegionIndex(manifest_of("f" * 64))
    index.insert_regions(
        [region_row(ImageRef("b", str(at)), generation=1, code=one.tobytes()) for at, one in enumerate(clustered(2500))]
    )
    steps: list[tuple[str, int, int | None]] = []
    tuning.tune_index(index, recall=0.9, top=5, codes=10_000, on_step=lambda *step: steps.append(step))
    lists = [("making 64 lists", 0, None)]
    graph = [("making a graph", done, 2500) for done in (0, 1000, 2000)]
    reading = [("reading", done, None) for done in (1000, 2000, 2500)]
    assert steps == [*reading, ("scanning", 0, None), *lists, *graph, ("trying the graph", 0, None)]


def test_the_effort_goes_by_the_kind_of_the_index() -> None:
    server = MilvusConnection(MilvusSettings(uri="http://127.0.0.1:1", nprobe=7, ef=50))
    assert server.effort("BIN_IVF_FLAT", limit=10) == {"nprobe": 7}
    assert server.effort("BIN_IVF_FLAT", limit=10, everywhere=True) == {"nprobe": MAX_NPROBE}
    assert server.effort("HNSW", limit=10) == {"ef": 50}
    assert server.effort("HNSW", limit=100) == {"ef": 100}, "Milvus wants ef of at least the limit"
    assert server.effort("HNSW", limit=1, everywhere=True) == {"ef": MAX_EF}


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("BIN_FLAT", {}), ("BIN_IVF_FLAT", {"nlist": 64}), ("HNSW", {"M": 8, "efConstruction": 90})],
)
def test_a_new_index_is_of_the_kind_in_the_settings(kind: str, parameters: dict[str, int]) -> None:
    from searchanything.stores.milvus_schema import meta_spec, regions_spec

    settings = MilvusSettings(
        uri="http://127.0.0.1:1",
        index_type=kind,
        nlist=64,
        hnsw_m=8,
        ef_construction=90,  # type: ignore[arg-type]
    )
    maker = CollectionMaker(settings, settings.uri, embedded=False, look_at_made=lambda _: None)
    made = maker.vector_index(regions_spec("regions", 256))
    assert made == {"index_type": kind, "metric_type": "HAMMING", "params": parameters}
    flat = {"index_type": "BIN_FLAT", "metric_type": "HAMMING", "params": {}}
    assert maker.vector_index(meta_spec("meta")) == flat, "a few rows need no lists"
    assert replace(maker, embedded=True).vector_index(regions_spec("regions", 256)) == flat, "Milvus Lite has no other"
