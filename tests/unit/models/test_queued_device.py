"""What the stand-in for a GPU says of programs whose order is right, and of some whose order is not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from fakes.queue_order import GPU, QueueOrder
from fakes.queued_device import queued_device

from searchanything.models.device_lane import DeviceLane, uploaded


@pytest.fixture
def device() -> Iterator[QueueOrder]:
    with queued_device() as made:
        yield made


def numbers() -> Any:
    return uploaded(np.arange(6, dtype=np.float32), GPU)


def test_it_computes_what_torch_computes(device: QueueOrder) -> None:
    there = numbers()
    assert (there.device, there.is_cuda) == (GPU, True)
    there[1] = 7
    table = torch.zeros((2, 3), device=GPU)
    table[torch.arange(1, -1, -1, device=GPU)] += there.view(2, 3)
    assert table.tolist() == [[3, 4, 5], [0, 7, 2]]
    assert there[there > 3].tolist() == [7, 4, 5]
    assert there[[5, 0]].cpu().numpy().tolist() == [5, 0]
    assert bool((there > 6).any())
    with pytest.raises(RuntimeError, match="numpy"):
        there.numpy()
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.arange(6)
    assert not device.faults


def test_another_queue_has_to_wait(device: QueueOrder) -> None:
    first, second = DeviceLane(GPU), DeviceLane(GPU)
    with first.open():
        there = numbers() * 2
    with second.open():
        view = there[1:]
        assert not device.faults, "a view is no work"
        view.sum()
    [fault] = device.faults
    assert fault.startswith("sum (test_queued_device.py:")
    assert "in queue 2 reads what mul (test_queued_device.py:" in fault
    assert fault.endswith("in queue 1 may not be done with")


@pytest.mark.parametrize("way", ["cpu", "item", "tolist"])
def test_so_has_the_host(way: str, device: QueueOrder) -> None:
    """It waits for the queue that it asks in, which may be another one."""
    with DeviceLane(GPU).open():
        there = numbers() * 2
    getattr(there[:1], way)()
    [fault] = device.faults
    assert "in the main queue reads what mul" in fault


@pytest.mark.parametrize("way", ["follow", "cpu", "item", "synchronize", "mask"])
def test_each_way_to_wait_will_do(way: str, device: QueueOrder) -> None:
    first, second = DeviceLane(GPU), DeviceLane(GPU)
    with first.open():
        there = numbers() * 2
        if way == "follow":
            second.follow()
        elif way == "synchronize":
            torch.cuda.current_stream(GPU).synchronize()
        elif way == "mask":
            there[there > 100]
        else:
            getattr(there[0], way)()
    with second.open():
        there.sum().cpu()
    assert not device.faults


@pytest.mark.parametrize("way", ["before", "nothing", "upload"])
def test_some_waits_are_none(way: str, device: QueueOrder) -> None:
    """What was queued after the wait, no values, and values that are sent."""
    first, second = DeviceLane(GPU), DeviceLane(GPU)
    with first.open():
        before = numbers()
        if way == "before":
            before.cpu()
        there = before * 2
        if way == "nothing":
            there[:0].cpu()
        if way == "upload":
            torch.arange(3).to(GPU)
    with second.open():
        there.sum()
    assert len(device.faults) == 1


def test_nobody_overwrites_what_another_queue_reads(device: QueueOrder) -> None:
    first, second = DeviceLane(GPU), DeviceLane(GPU)
    with first.open():
        there = numbers()
        second.follow()
        with second.open():
            there.sum()
        there += 1
    assert ["overwrites" in one for one in device.faults] == [True]
    device.faults.clear()
    with second.open():
        there.sum().item()
    assert len(device.faults) == 1
    with first.open():
        there += 1
    assert len(device.faults) == 1


@pytest.mark.parametrize(("way", "faults"), [("", 1), ("recorded", 0), ("waited", 0), ("followed", 0)])
def test_memory_is_kept_until_others_have_read_it(way: str, faults: int, device: QueueOrder) -> None:
    first, second = DeviceLane(GPU), DeviceLane(GPU)
    with first.open():
        there = numbers()
        second.follow()
        with second.open():
            total = there.sum()
            if way == "recorded":
                there.record_stream(torch.cuda.current_stream(GPU))
            if way == "waited":
                total.cpu()
            if way == "followed":
                first.follow()
    del there
    assert ["is freed while sum" in one for one in device.faults] == [True] * faults


def test_what_was_asked_for_without_waiting_is_garbage_until_then(device: QueueOrder) -> None:
    with DeviceLane(GPU).open():
        there = numbers()
        found = there.to("cpu", non_blocking=True)
        assert found[2:].tolist() != [2, 3, 4, 5]
        assert there[:0].cpu().tolist() == []
        assert found[2:].tolist() != [2, 3, 4, 5]
        torch.cuda.current_stream(GPU).synchronize()
    assert found.tolist() == [0, 1, 2, 3, 4, 5]
    assert not device.faults


@pytest.mark.parametrize("waits", [False, True])
def test_pinned_memory_stays_as_it_is_until_it_was_sent(waits: bool, device: QueueOrder) -> None:
    staging = torch.arange(4).pin_memory()
    there = staging.to(GPU, non_blocking=True)
    if waits:
        there.cpu()
    staging[0] = 9
    device.close()
    assert ["sends memory that the host has changed" in one for one in device.faults] == [True] * (not waits)


def test_a_thread_knows_what_those_know_that_it_has_its_work_from(device: QueueOrder) -> None:
    made: list[Any] = []
    lane = DeviceLane(GPU)

    def make() -> None:
        made.append(numbers() * 2)
        made[-1].cpu()

    def read() -> None:
        with lane.open():
            made[-1].sum().cpu()

    with ThreadPoolExecutor(1) as some, ThreadPoolExecutor(1) as others:
        some.submit(make).result()
        others.submit(read).result()
        assert not device.faults
        some.submit(make)
        some.shutdown()
        others.submit(read).result()
    assert len(device.faults) == 1, "that it was done by then is luck"


def test_a_cache_hands_on_what_is_known(device: QueueOrder) -> None:
    kept: list[Any] = []

    def cached() -> Any:
        if not kept:
            kept.append(numbers())
            kept[0].cpu()
        return kept[0]

    shared, lane = device.handing_on(cached), DeviceLane(GPU)

    def read() -> None:
        with lane.open():
            shared().sum().cpu()

    with ThreadPoolExecutor(1) as some, ThreadPoolExecutor(1) as others:
        futures = [one.submit(read) for one in (some, others)]
        for one in futures:
            one.result()
    assert not device.faults
