"""Batches that share the cores of a CPU: each thread its part of torch's threads, and all of them when it is alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from searchanything import wiring
from searchanything.core.settings import load_settings
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.encode.encoder import Stopwatch
from searchanything.ingest.overlap import Overlap
from searchanything.models import cores
from searchanything.models.climb import Climb
from searchanything.models.compute import CPU
from searchanything.models.cores import sharers, sharing, take_share
from searchanything.models.measurements import machine_facts
from searchanything.models.passes import Passes

Made = TypeVar("Made")
THREADS = 4
WAIT_S = 20.0


def given_threads() -> None:
    """This thread has four in torch, whatever the machine has."""
    torch.get_num_threads()  # the process's number, before it is this thread's own
    set_threads = cores._setter()
    assert set_threads is not None, "torch from PyPI computes with OpenMP"
    set_threads(THREADS)


def in_thread(work: Callable[[], Made]) -> Made:
    """The answer of another thread, which has THREADS."""
    with ThreadPoolExecutor(1, initializer=given_threads) as pool:
        return pool.submit(work).result(WAIT_S)


def test_alone_all_threads_are_taken() -> None:
    def work() -> tuple[float, int, int]:
        with sharing():
            return take_share(), torch.get_num_threads(), len(cores._sharers)

    assert in_thread(work) == (1.0, THREADS, 1)
    assert cores._sharers == []


@pytest.mark.parametrize("others", [1, 2, 3, 7])
def test_those_who_share_divide_the_threads_and_the_last_has_all_again(others: int) -> None:
    """A share is asked for again before each pass, so it grows while a batch is worked on. No core is left over."""
    here, before = threading.Barrier(others + 1), torch.get_num_threads()
    gone, asked = threading.Barrier(others + 1), threading.Barrier(others + 1)

    def other() -> tuple[tuple[float, int], int]:
        with sharing():
            here.wait(WAIT_S)
            seen = take_share(), torch.get_num_threads()
            asked.wait(WAIT_S)
        left = torch.get_num_threads()
        gone.wait(WAIT_S)
        return seen, left

    def work() -> list[tuple[float, int]]:
        seen = []
        with sharing():
            here.wait(WAIT_S)
            seen.append((take_share(), torch.get_num_threads()))
            asked.wait(WAIT_S)
            gone.wait(WAIT_S)
            seen.append((take_share(), torch.get_num_threads()))
        return seen

    with ThreadPoolExecutor(others, initializer=given_threads) as pool:
        waiting = [pool.submit(other) for _ in range(others)]
        mine, after = in_thread(work)
        shared, left = zip(*(one.result(WAIT_S) for one in waiting), strict=True)
    assert all(part == threads / THREADS for part, threads in (mine, *shared))
    assert sum(threads for _, threads in (mine, *shared)) == max(THREADS, others + 1)
    assert (after, set(left)) == ((1.0, THREADS), {THREADS})
    assert torch.get_num_threads() == before, "other threads, a question's, keep theirs"


def test_mkl_heeds_a_share_where_threads_were_set() -> None:
    """As `models.threads` does, in each worker of `watch`: else two batches' matrices have all cores twice."""
    if cores._mkl() is None:
        pytest.skip("torch without MKL")

    def work() -> tuple[str, str, str]:
        torch.set_num_threads(THREADS)
        before = mkl_threads()
        with sharing():
            other = in_thread_sharing(entered, leave)
            entered.wait(WAIT_S)
            take_share()
            inside = mkl_threads()
            leave.set()
            other.join(WAIT_S)
        return before, inside, mkl_threads()

    before = torch.get_num_threads()
    entered, leave = threading.Event(), threading.Event()
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(work).result(WAIT_S) == (str(THREADS), str(THREADS // 2), str(THREADS))
    finally:
        torch.set_num_threads(before)


def mkl_threads() -> str:
    """How many the calling thread has in MKL."""
    return torch.__config__.parallel_info().partition("mkl_get_max_threads() : ")[2].split()[0]


def test_a_model_that_is_loaded_by_a_batch_knows_of_all_threads() -> None:
    """How many images it takes at once, and what a measurement is kept for, is not what others left it by chance."""

    def facts() -> tuple[object, ...]:
        return CPU.images_at_once(), CPU.crops_at_once(), CPU.crops_to_try(), machine_facts(CPU.device)

    def work() -> tuple[object, object, int]:
        with sharing():
            other = in_thread_sharing(entered, leave)
            entered.wait(WAIT_S)
            take_share()
            inside, threads = facts(), torch.get_num_threads()
            leave.set()
            other.join(WAIT_S)
        return inside, facts(), threads

    entered, leave = threading.Event(), threading.Event()
    inside, outside, threads = in_thread(work)
    assert inside == outside
    assert threads == THREADS // 2


def test_a_share_within_a_share_is_none_of_its_own() -> None:
    def work() -> tuple[int, int, int]:
        with sharing():
            with sharing():
                inside = len(cores._sharers)
            return inside, len(cores._sharers), torch.get_num_threads()

    assert in_thread(work) == (1, 1, THREADS)


def test_what_fails_gives_its_share_back() -> None:
    def work() -> int:
        with pytest.raises(ValueError, match="a bad image"), sharing():
            raise ValueError("a bad image")
        return torch.get_num_threads()

    assert (in_thread(work), cores._sharers) == (THREADS, [])


def test_a_thread_that_does_not_share_keeps_its_threads() -> None:
    assert in_thread(lambda: (take_share(), torch.get_num_threads())) == (1.0, THREADS)


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (2, 2), (3, 3), (16, 4)])
def test_a_core_or_more_for_each_of_at_most_four(threads: int, expected: int) -> None:
    assert sharers(threads) == expected


def test_without_openmp_one_batch_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_setter", lambda: None)
    assert sharers(16) == 1
    with sharing():
        assert (take_share(), cores._sharers) == (1.0, [])


def test_a_library_that_torch_does_not_heed_is_not_taken() -> None:
    assert not cores._is_torchs(lambda _: None)


def test_a_timed_pass_counts_as_with_all_cores() -> None:
    """With half of the cores it has half of the crops, and counts for all: the number that is found is of all cores."""
    clock, rates, seen = SimpleNamespace(now_s=0.0), list[tuple[int, float]](), set[tuple[int, int]]()

    def embed(crops: np.ndarray) -> np.ndarray:
        seen.add((len(crops), torch.get_num_threads()))
        clock.now_s += len(crops) * THREADS / torch.get_num_threads()
        return crops

    def work() -> None:
        with sharing():
            other = in_thread_sharing(entered, leave)
            entered.wait(WAIT_S)
            passes = Passes(
                8,
                climb=Climb((8,), 8),
                on_choice=lambda *choice: rates.append(choice),
                clock=lambda: clock.now_s,
            )
            passes.over(np.zeros((80, 1), np.uint8), embed, timed=True)
            leave.set()
            other.join(WAIT_S)

    entered, leave = threading.Event(), threading.Event()
    in_thread(work)
    assert (rates, seen) == ([(8, pytest.approx(1.0))], {(4, THREADS // 2)})


def in_thread_sharing(entered: threading.Event, leave: threading.Event) -> threading.Thread:
    """Another thread that shares until it is told to leave."""

    def stay() -> None:
        given_threads()
        with sharing():
            entered.set()
            leave.wait(WAIT_S)

    thread = threading.Thread(target=stay)
    thread.start()
    return thread


def test_codes_of_a_run_are_those_of_its_images() -> None:
    """Sums over other parts are rounded otherwise: 1e-4 of a pixel, and no bit here."""
    settings = load_settings()
    settings.models.preset, settings.models.device = "pico", "cpu"
    encoder = wiring.load_encoder(None, wiring.hash_layer_of(None, None, settings), settings)
    images = [scene.image for _, scene in generate_demo_scenes(6, seed=3)]
    expected = encoder.encode_images(images)
    overlap: Overlap[Any] = Overlap(
        lambda: replace(encoder, at_once=replace(encoder.at_once, batches=3)),
        image_of=lambda one: one,
        alone=lambda _: [],
        watch=Stopwatch(),
    )
    batches = [images[first : first + 2] for first in range(0, len(images), 2)]
    found = [one for batch in overlap.run(batches) for _, one in batch if one is not None]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-2)
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_allclose(one.features.image, other.features.image, atol=1e-5)
