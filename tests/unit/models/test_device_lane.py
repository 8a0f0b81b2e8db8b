"""Queues of a GPU, of which there is none here: torch's word for them is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from searchanything.models import device_lane
from searchanything.models.device_lane import DeviceLane, uploaded

GPU = torch.device("cuda", 0)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens, in order."""
    seen: list[str] = []
    names = iter(("first", "second"))

    def stream(device: torch.device, *, priority: int) -> SimpleNamespace:
        name = next(names)
        seen.append(f"{name} with priority {priority}")
        return SimpleNamespace(
            name=name, device=device, wait_stream=lambda other: seen.append(f"{name} waits for {other}")
        )

    @contextmanager
    def entered(one: SimpleNamespace) -> Iterator[None]:
        seen.append(f"into {one.name}")
        yield
        seen.append(f"out of {one.name}")

    monkeypatch.setattr(device_lane, "_stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the thread's own on {device}")
    return seen


def test_lanes_are_apart_and_follow_what_was_queued_before_them(events: list[str]) -> None:
    quick, slow = DeviceLane(GPU, urgent=True), DeviceLane(GPU)
    with slow.open():
        events.append("work")
        with quick.open():
            events.append("more work")
    quick.follow()
    assert events == [
        "first with priority -1",
        "first waits for the thread's own on cuda:0",
        "second with priority 0",
        "second waits for the thread's own on cuda:0",
        "into second",
        "work",
        "into first",
        "more work",
        "out of first",
        "out of second",
        "first waits for the thread's own on cuda:0",
    ]


def test_a_cpu_has_no_queues(events: list[str]) -> None:
    lane = DeviceLane(torch.device("cpu"), urgent=True)
    lane.follow()
    with lane.open():
        pass
    assert not events
    values = np.arange(6, dtype=np.uint8)
    there = uploaded(values, torch.device("cpu"))
    values[0] = 7
    assert there.tolist() == [7, 1, 2, 3, 4, 5], "nothing is copied"


def test_to_a_gpu_values_travel_from_memory_that_stays_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    class Pinned(torch.Tensor):
        def to(self, *where: object, **how: object) -> torch.Tensor:  # type: ignore[override]
            calls.append((where, how))
            return self

    def pin_memory(self: torch.Tensor) -> torch.Tensor:
        calls.append("pinned")
        return self.as_subclass(Pinned)

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    assert uploaded(np.arange(3), GPU).tolist() == [0, 1, 2]
    assert calls == ["pinned", ((GPU,), {"non_blocking": True})]
