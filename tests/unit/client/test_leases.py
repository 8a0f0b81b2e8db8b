"""Leases: who has one is alone, who waits gets it, and who lost it does no more and leaves the other one's note."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from fakes.models import fake_encoder

from searchanything.client.change_lease import (
    begun_indexes,
    change_lease,
    check_not_leased,
    note_behind,
    warn_of_ended,
)
from searchanything.client.lease import Lease, this_machine
from searchanything.core.errors import RegionIndexError
from searchanything.encode.fingerprint import manifest_of
from searchanything.stores.memory import MemoryIndexStore

NOTE = "work-lease"
WAIT_S = 30.0  # of a failing test; a passing one waits for a few looks at the note


def lease_of(store: MemoryIndexStore) -> Lease:
    return Lease(store, NOTE, "works here", 120.0)


def another_one(**changes: Any) -> bytes:
    note = {"by": "another", "at": time.time(), "of": [], "machine": "elsewhere", "pid": 1}
    return json.dumps(note | changes).encode()


class Ending(MemoryIndexStore):
    """Another process has the lease until its note was looked at a few times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks
        self.remember(NOTE, another_one())

    def recall(self, name: str) -> bytes:
        self.looks -= 1
        if self.looks == 0:
            self.remember(NOTE, b"")
        return super().recall(name)


def test_who_waits_gets_it_when_the_other_one_ends() -> None:
    store = Ending(looks=3)
    with lease_of(store).held(wait_s=WAIT_S):
        assert lease_of(store).holder["by"] != "another"
    assert lease_of(store).holder == {}


def test_who_does_not_wait_is_refused_and_leaves_the_note() -> None:
    store = Ending(looks=3)
    with pytest.raises(RegionIndexError, match="another process works here"), lease_of(store).held():
        pytest.fail("it is not free")
    assert lease_of(store).holder["by"] == "another"


@pytest.mark.parametrize("elsewhere", [True, False])
def test_the_refusal_names_who_has_it_and_how_to_go_on(elsewhere: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now_s = MemoryIndexStore(), time.time()
    monkeypatch.setattr(time, "time", lambda: now_s)
    machine = "gpu7 pid:[4026531836]" if elsewhere else this_machine()
    store.remember(NOTE, another_one(at=now_s - 30, machine=machine, pid=os.getpid()))
    with pytest.raises(RegionIndexError) as refused:
        Lease(store, NOTE, "works here", 600.0).check_free()
    said = str(refused.value)
    assert f"process {os.getpid()} on {machine.partition(' ')[0]}, last heard of 30 s ago" in said
    assert ("If it was killed, the same command goes on in 10 min, and on gpu7 at once" in said) == elsewhere


def test_who_lost_it_gives_way_and_leaves_the_note_of_who_took_it() -> None:
    store = MemoryIndexStore()
    with lease_of(store).held() as check:
        check(now=True)
        store.remember(NOTE, another_one())
        with pytest.raises(RegionIndexError, match="this one gives way"):
            check(now=True)
    assert lease_of(store).holder["by"] == "another"


def test_who_was_late_and_met_nobody_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryIndexStore()
    with lease_of(store).held() as check:
        store.remember(NOTE, json.dumps(json.loads(store.recall(NOTE)) | {"at": time.time() - 1000}).encode())
        assert lease_of(store).holder == {}, "it ran out in a long step"
        monkeypatch.setattr("searchanything.client.lease.RENEW_S", 0.0)
        check()
        assert lease_of(store).holder
    assert lease_of(store).holder == {}


@pytest.mark.parametrize("later_s", [-1000, 1000])
def test_a_note_of_a_clock_that_is_far_away_keeps_nobody_out(later_s: float) -> None:
    store = MemoryIndexStore()
    store.remember(NOTE, another_one(at=time.time() + later_s))
    with lease_of(store).held():
        assert lease_of(store).holder["by"] != "another"


def test_of_two_that_begin_at_once_the_later_note_counts() -> None:
    """Each saw that it was free."""

    class Meeting(MemoryIndexStore):
        def remember(self, name: str, data: bytes) -> None:
            super().remember(name, data)
            if b"another" not in data:
                super().remember(name, another_one())

    store = Meeting()
    with pytest.raises(RegionIndexError, match="this one gives way"), lease_of(store).held():
        pytest.fail("the other one has it")
    assert lease_of(store).holder["by"] == "another"


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_holder_that_was_killed_is_seen_at_once_on_its_own_machine(elsewhere: bool) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()  # from here on no process has its number
    store = MemoryIndexStore()
    store.remember(NOTE, another_one(machine="gpu7" if elsewhere else this_machine(), pid=killed.pid))
    assert bool(lease_of(store).holder) == elsewhere


def test_who_lost_it_notices_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryIndexStore()
    with lease_of(store).held() as check:
        store.remember(NOTE, another_one())
        check()  # not due yet: each look is a question to the index
        monkeypatch.setattr("searchanything.client.lease.RENEW_S", 0.0)
        with pytest.raises(RegionIndexError, match="this one gives way"):
            check()
    assert lease_of(store).holder["by"] == "another"


def test_a_note_is_written_no_more_often_than_it_is_due() -> None:
    written: list[bytes] = []

    class Counting(MemoryIndexStore):
        def remember(self, name: str, data: bytes) -> None:
            written.append(data)
            super().remember(name, data)

    with lease_of(Counting()).held() as check:
        for _ in range(3):
            check()
            check(now=True)
        assert len(written) == 1
    assert written[1:] == [b""]


def test_work_that_is_done_is_done_though_its_note_stays(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(MemoryIndexStore):
        def remember(self, name: str, data: bytes) -> None:
            if not data:
                raise RegionIndexError("no answer")
            super().remember(name, data)

    with lease_of(Failing()).held():
        pass
    assert "the note of who works here stays for a while: no answer" in caplog.messages


def test_a_change_that_goes_on_is_not_said_to_have_ended(caplog: pytest.LogCaptureFixture) -> None:
    """Who changes the models has switched, and now catches up with what was written meanwhile."""
    store = MemoryIndexStore()
    with change_lease(store, ("old", "new"), "searchanything models apply pico"):
        note_behind(store, "new")
        warn_of_ended(store, "new")
        assert caplog.messages == []
    warn_of_ended(store, "old")
    assert caplog.messages == []
    warn_of_ended(store, "new")
    (said,) = caplog.messages
    assert "sync repair" in said
    warn_of_ended(store, "new")
    assert caplog.messages == [said], "once"


def test_an_index_that_is_being_filled_is_nobody_elses() -> None:
    """Another process that emptied it, or made it live, would have half of it."""
    store = MemoryIndexStore()
    check_not_leased(store, "new")
    with change_lease(store, ("old", "new"), "searchanything models apply pico"):
        for fingerprint in ("old", "new"):
            with pytest.raises(RegionIndexError, match="is not whole yet; try again when that is done, or 10 minutes"):
                check_not_leased(store, fingerprint)
        check_not_leased(store, "another")
    check_not_leased(store, "new")


def test_how_an_index_was_begun_is_known_until_it_is_live_or_gone() -> None:
    store = MemoryIndexStore()
    encoders = [fake_encoder(regions=count) for count in (1, 2, 3)]
    manifests = [manifest_of(encoder, "pico") for encoder in encoders]
    for manifest, encoder in zip(manifests, encoders, strict=True):
        store.create(manifest, encoder.hasher.to_bytes())
    first, second, third = (manifest.fingerprint for manifest in manifests)
    with change_lease(store, (first, second), "to the second"):
        assert begun_indexes(store) == {second: "to the second"}
    with change_lease(store, (first, third), "to the third"):
        assert begun_indexes(store) == {second: "to the second", third: "to the third"}
    with change_lease(store, (second, first), "back from the second"):  # which has become live
        assert begun_indexes(store) == {third: "to the third", first: "back from the second"}
    store.drop(third)
    assert begun_indexes(store) == {first: "back from the second"}
    with change_lease(store, (second, first), "back again"):
        store.create(manifests[2], encoders[2].hasher.to_bytes())
        assert begun_indexes(store) == {first: "back again"}, "one that is made anew was not begun so"
