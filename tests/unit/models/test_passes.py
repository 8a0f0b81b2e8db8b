"""Passes through a model: timed in runs alone, halved where memory runs out, and the same results whatever they are."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.types import FloatArray, RGBImage
from searchanything.models import passes as passes_module
from searchanything.models.climb import Climb
from searchanything.models.compute import CPU, Compute
from searchanything.models.measurements import Measurements, ModelFacts, machine_facts
from searchanything.models.passes import Passes, is_out_of_memory, measured_passes

SIZES = (8, 16, 32, 64, 128)
FIXED = 32
MODEL: ModelFacts = {"encoder": "tower", "weights_sha256": "0" * 64, "crop_px": 4}


class Tower:
    """A model whose speed at a size is given, by a clock of its own, and whose memory holds so many crops."""

    def __init__(self, speeds: dict[int, float] | None = None, *, memory: int = 10**6) -> None:
        self.speeds, self.memory = speeds or {}, memory
        self.sizes: list[int] = []
        self.now_s = 0.0

    def clock(self) -> float:
        return self.now_s

    def embed(self, crops: RGBImage) -> FloatArray:
        self.sizes.append(len(crops))
        if len(crops) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.now_s += len(crops) / self.speeds.get(len(crops), 1e4)
        return crops.mean(axis=(1, 2, 3), dtype=np.float32)


def crops_of(count: int) -> RGBImage:
    return np.random.default_rng(count).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def measuring(tower: Tower, *, chosen: list[tuple[int, float]] | None = None) -> Passes:
    told = chosen if chosen is not None else []
    return Passes(FIXED, climb=Climb(SIZES, FIXED), on_choice=lambda *choice: told.append(choice), clock=tower.clock)


PEAK_AT_64 = {8: 1000.0, 16: 2000.0, 32: 3000.0, 64: 4000.0, 128: 3500.0}


def test_a_run_finds_the_fastest_size_on_its_own_crops() -> None:
    tower, chosen = Tower(PEAK_AT_64), list[tuple[int, float]]()
    passes, crops = measuring(tower, chosen=chosen), crops_of(1400)
    made = np.concatenate(passes.over(crops, tower.embed, timed=True))
    assert np.array_equal(made, Tower().embed(crops)), "each crop once, in order"
    up = [8] * 3 + [16] * 3 + [32] * 3 + [64] * 3 + [128] * 3
    assert tower.sizes == up + [64, 32, 32] * 5 + [16]
    assert chosen == [(64, pytest.approx(4000.0))]
    assert passes.at_once == 64


def test_a_size_that_a_query_had_no_memory_for_ends_the_climb() -> None:
    tower, chosen = Tower(PEAK_AT_64, memory=40), list[tuple[int, float]]()
    passes = Passes(64, climb=Climb(SIZES, 64), on_choice=lambda *choice: chosen.append(choice), clock=tower.clock)
    passes.over(crops_of(100), tower.embed)
    assert tower.sizes[:2] == [64, 32]
    passes.over(crops_of(1400), tower.embed, timed=True)
    assert chosen == [(32, pytest.approx(3000.0))]
    assert tower.sizes.count(64) == 1, "not again"


def test_queries_are_not_timed() -> None:
    tower, chosen = Tower(PEAK_AT_64), list[tuple[int, float]]()
    passes = measuring(tower, chosen=chosen)
    passes.over(crops_of(1000), tower.embed)
    assert set(tower.sizes) == {FIXED, 1000 % FIXED}
    assert chosen == []
    assert passes.at_once == FIXED


def test_a_rest_that_is_smaller_than_the_size_is_not_timed() -> None:
    tower = Tower(PEAK_AT_64)
    passes = measuring(tower)
    for _ in range(20):
        passes.over(crops_of(7), tower.embed, timed=True)
    assert passes.at_once == FIXED
    assert tower.sizes == [7] * 20


def test_a_number_that_never_comes_is_not_waited_for() -> None:
    tower, chosen = Tower({8: 1000.0, 16: 2000.0, 32: 1500.0}), list[tuple[int, float]]()
    passes = measuring(tower, chosen=chosen)
    for _ in range(40):
        passes.over(crops_of(40), tower.embed, timed=True)
    assert max(tower.sizes) == 32
    assert chosen == [(16, pytest.approx(2000.0))]
    assert passes.at_once == 16


@pytest.mark.parametrize("count", [3, 10, 20])
def test_runs_of_few_crops_keep_the_usual_number_and_tell_nobody(count: int) -> None:
    tower, chosen = Tower({8: 1000.0, 16: 2000.0, 32: 1500.0}), list[tuple[int, float]]()
    passes = measuring(tower, chosen=chosen)
    for _ in range(40):
        passes.over(crops_of(count), tower.embed, timed=True)
    assert (passes.at_once, chosen) == (FIXED, [])


def test_memory_that_runs_out_ends_the_climb() -> None:
    tower, chosen = Tower({8: 1000.0, 16: 2000.0, 32: 3000.0, 64: 4000.0}, memory=64), list[tuple[int, float]]()
    passes, crops = measuring(tower, chosen=chosen), crops_of(1400)
    made = np.concatenate(passes.over(crops, tower.embed, timed=True))
    assert np.array_equal(made, Tower().embed(crops))
    assert tower.sizes.count(128) == 1, "not again"
    assert chosen == [(64, pytest.approx(4000.0))]
    passes.over(crops, tower.embed, timed=True)
    assert tower.sizes.count(128) == 1


@given(memory=st.integers(1, 200), counts=st.lists(st.integers(0, 300), min_size=1, max_size=6), timed=st.booleans())
def test_a_smaller_batch_after_running_out_of_memory_is_remembered(
    memory: int, counts: list[int], *, timed: bool
) -> None:
    logging.getLogger("searchanything.models.passes").setLevel(logging.ERROR)
    tower = Tower(memory=memory)
    passes = Passes(128, climb=Climb(SIZES, 128), clock=tower.clock)
    for count in counts:
        crops = crops_of(count)
        made = passes.over(crops, tower.embed, timed=timed)
        assert np.array_equal(np.concatenate([np.zeros(0, np.float32), *made]), Tower().embed(crops))
    failed = [size for size in tower.sizes if size > memory]
    assert all(other <= one / 2 for one, other in pairwise(failed)), "each failure once"
    assert len(failed) <= 8


def test_what_has_no_room_for_one_fails_as_before() -> None:
    tower = Tower(memory=0)
    with pytest.raises(torch.OutOfMemoryError):
        Passes(16).over(crops_of(3), tower.embed)
    assert tower.sizes == [3, 1]


def test_other_errors_are_nobodys_memory() -> None:
    calls = []

    def broken(some: list[int]) -> None:
        calls.append(len(some))
        raise RuntimeError("CUDA error: device-side assert triggered")

    passes = Passes(4)
    with pytest.raises(RuntimeError, match="assert"):
        passes.over([1, 2, 3, 4, 5], broken)
    assert calls == [4]
    assert passes.at_once == 4


def caused(error: Exception, *, by: Exception) -> Exception:
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
        (caused(ValueError("cannot be loaded"), by=torch.OutOfMemoryError("CUDA out of memory.")), True),
        (caused(ValueError("cannot be loaded"), by=OSError("no such file")), False),
    ],
)
def test_what_counts_as_running_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_an_error_in_a_timed_pass_leaves_the_next_one_to_be_timed() -> None:
    tower = Tower(PEAK_AT_64)
    passes = measuring(tower)

    def broken(_crops: RGBImage) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        passes.over(crops_of(50), broken, timed=True)
    passes.over(crops_of(1400), tower.embed, timed=True)
    assert passes.at_once == 64


def test_threads_at_once_get_their_own_crops_and_one_of_them_is_timed() -> None:
    tower = Tower(PEAK_AT_64)
    passes = measuring(tower)
    batches = [crops_of(count) for count in range(100, 164)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda crops: np.concatenate(passes.over(crops, tower.embed, timed=True)), batches))
    assert all(np.array_equal(one, Tower().embed(crops)) for one, crops in zip(made, batches, strict=True))
    assert tower.sizes.count(SIZES[0]) > 2, "two are remainders of 104 and 136 crops; a climb begins with three"


def test_in_turns_no_other_pass_is_counted_until_there_is_a_choice() -> None:
    """A clock that all threads share, as one queue of a GPU: two passes at once would take each other's time."""
    tower, climb, inside, most, both = Tower(PEAK_AT_64), Climb(SIZES, FIXED), [0], [0], threading.Barrier(2)
    passes = Passes(FIXED, climb=climb, clock=tower.clock, in_turns=True)

    def embed(crops: RGBImage) -> FloatArray:
        if climb.choice is None:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.001)
            inside[0] -= 1
        return tower.embed(crops)

    def meet(crops: RGBImage) -> FloatArray:
        both.wait(20)
        return tower.embed(crops)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda crops: passes.over(crops, embed, timed=True), [crops_of(350)] * 16))
        assert (passes.at_once, most) == (64, [1])
        list(pool.map(lambda crops: passes.over(crops, meet, timed=True), [crops_of(64)] * 2))


def run_to_the_end(folder: Path, *, model: ModelFacts = MODEL, compute: Compute = CPU) -> tuple[int | None, list[int]]:
    """Which size a process uses at first, and the sizes of its run's passes."""
    tower = Tower()
    passes = measured_passes(model, compute, Measurements(folder))
    first = passes.at_once
    passes.over(crops_of(3000), tower.embed, timed=True)
    return first, tower.sizes


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes take no time, and there are two threads."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(passes_module, "_clock_of", lambda _: lambda: 0.0)


@pytest.mark.usefixtures("clocked")
def test_what_was_measured_is_used_by_the_next_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, passes_module.__name__)
    first, sizes = run_to_the_end(tmp_path / "new" / "folder")
    assert first == 32
    assert sizes[:3] == [8, 8, 8]
    chosen = sizes[-2]
    assert chosen == 128, "each twice as fast, where a pass takes no time"
    again, sizes = run_to_the_end(tmp_path / "new" / "folder")
    assert again == chosen
    assert set(sizes) <= {chosen, 3000 % chosen}
    said = [record.getMessage() for record in caplog.records]
    assert [line.rpartition(", ")[2] for line in said] == ["measured now", "measured before"]
    assert all(line.startswith("encoder: 128 crops at a time, ") for line in said)


@pytest.mark.usefixtures("clocked")
@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("weights_sha256", "1" * 64),
        ("crop_px", 8),
        ("encoder", "other"),
        ("device", "GPU"),
        ("torch", "9.9"),
        ("threads", 7),
        ("measured_by", 99),
        ("precision", "bf16"),
    ],
)
def test_what_was_measured_otherwise_does_not_count(
    what: str, value: str | int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_to_the_end(tmp_path)
    if what in MODEL:
        found = run_to_the_end(tmp_path, model={**MODEL, what: value})
    elif what == "precision":
        found = run_to_the_end(tmp_path, compute=Compute(torch.device("cpu"), torch.bfloat16))
    else:
        facts = machine_facts(CPU.device)
        assert what in facts
        monkeypatch.setattr(passes_module, "machine_facts", lambda _: {**facts, what: value})
        found = run_to_the_end(tmp_path)
    assert found[0] == 32
    assert found[1][:3] == [8, 8, 8]
    assert len(list(tmp_path.iterdir())) == 2


DAMAGED = [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"question": {}, "answer": {"at_once": 64, "per_s": 1.0}}']
WRONG = ["null", "[]", '{"at_once": true, "per_s": 1.0}', '{"at_once": 33, "per_s": 1.0}', '{"at_once": 64}']
WRONG += ['{"at_once": 64, "per_s": "fast"}', '{"at_once": 64.0, "per_s": 1.0}', '{"at_once": 64, "per_s": -1.0}']
WRONG += ['{"at_once": 1000000, "per_s": 1.0}', '{"at_once": [64], "per_s": 1.0}', '{"at_once": 64, "per_s": NaN}']


@pytest.mark.usefixtures("clocked")
@pytest.mark.parametrize("content", [*DAMAGED, *WRONG], ids=lambda one: str(one)[:40])
def test_a_damaged_or_foreign_file_is_measured_anew(content: bytes | str, tmp_path: Path) -> None:
    run_to_the_end(tmp_path)
    (file,) = tmp_path.iterdir()
    sound = file.read_text()
    if isinstance(content, str):
        question, _, _ = sound.partition('"answer"')
        content = f'{question}"answer": {content}}}'.encode()
    file.write_bytes(content)
    first, sizes = run_to_the_end(tmp_path)
    assert first == 32
    assert sizes[:3] == [8, 8, 8]
    assert file.read_text() == sound


@pytest.mark.usefixtures("clocked")
def test_a_place_that_cannot_be_written_costs_the_next_measurement_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert run_to_the_end(folder)[1][-2] == 128
        assert run_to_the_end(folder)[0] == 32


@pytest.mark.usefixtures("clocked")
def test_processes_that_measure_at_the_same_time_do_no_harm(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: run_to_the_end(tmp_path), range(24)))
    assert {first for first, _ in found} <= {32, 128}
    assert len(list(tmp_path.iterdir())) == 1
    assert run_to_the_end(tmp_path)[0] == 128


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7, 8, 12, 16, 64, 200])
def test_sizes_that_are_tried_on_a_cpu(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    sizes = CPU.crops_to_try()
    assert CPU.crops_at_once() == min(128, 16 * threads)
    assert CPU.crops_at_once() in sizes
    assert sizes[0] == min(32, 4 * threads)
    assert all(2 * one == other for one, other in pairwise(sizes))
    assert sizes[-1] <= 512


def test_on_a_cpu_other_programs_do_not_count() -> None:
    assert passes_module._clock_of(CPU) is time.thread_time
    assert passes_module._clock_of(Compute(torch.device("mps"), torch.float16)) is time.perf_counter


def test_on_a_gpu_a_pass_ends_when_its_answer_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []

    def current_stream(device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(synchronize=lambda: waited.append(device))

    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    device = torch.device("cuda", 1)
    clock = passes_module._clock_of(Compute(device, torch.float16))
    before = time.perf_counter()
    assert before <= clock() <= time.perf_counter()
    assert waited == [device]


def test_sizes_that_are_tried_on_a_gpu() -> None:
    gpu = Compute(torch.device("cuda"), torch.float16)
    assert (gpu.crops_to_try(), gpu.crops_at_once(), gpu.images_at_once()) == ((32, 64, 128, 256, 512), 128, None)
