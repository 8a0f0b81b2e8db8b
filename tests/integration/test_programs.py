"""Programs under watch: killed whole, ended gently, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.processes import NotReadyError, Program

# Starts a child of its own, says so, and ends at SIGTERM unless it is told to be stubborn. The child holds memory, so
# that the kernel takes a while to tear it down.
_FAMILY = """
import pathlib, signal, subprocess, sys, time
code = "import time; held = bytearray(b'x') * 300_000_000; print(flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline()
def end(*_):
    child.terminate()
    pathlib.Path("ended").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else end)
pathlib.Path("child").write_text(str(child.pid))
time.sleep(60)
"""


def program(folder: Path, *arguments: str, grace_s: float = 5.0) -> Program:
    command = [sys.executable, "-c", _FAMILY, *arguments]
    ready = (folder / "child").exists
    return Program("family", command, {"PATH": os.environ["PATH"]}, folder, ready, grace_s=grace_s)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Program]:
    started = program(tmp_path)
    started.start()
    started.wait(30)
    yield started
    started.kill()


def test_a_kill_takes_the_children_along(family: Program, tmp_path: Path) -> None:
    child = int((tmp_path / "child").read_text())
    assert not gone(child)
    family.kill()
    assert not family.alive
    assert gone(child)
    assert not (tmp_path / "ended").exists()


def test_a_stop_is_gentle_and_it_can_be_started_again(family: Program, tmp_path: Path) -> None:
    first = family.pid
    family.stop()
    assert (tmp_path / "ended").exists()
    (tmp_path / "child").unlink()
    family.start()
    family.wait(30)
    assert family.pid != first


def test_the_stubborn_is_killed_after_its_grace(tmp_path: Path) -> None:
    stubborn = program(tmp_path, "stubborn", grace_s=0.4)
    stubborn.start()
    stubborn.wait(30)
    pid, start = stubborn.pid, time.monotonic()
    stubborn.stop()
    assert gone(pid)
    assert time.monotonic() - start < 4.0


def test_what_ends_at_once_says_why(tmp_path: Path) -> None:
    broken = Program("broken", ["/bin/sh", "-c", "echo no port left; exit 3"], {}, tmp_path, lambda: False)
    broken.start()
    with pytest.raises(NotReadyError, match="broken ended: no port left"):
        broken.wait(30)
    broken.stop()


def test_it_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    parent_code = (
        "import sys, time; from pathlib import Path; from integration.test_programs import program\n"
        "started = program(Path(sys.argv[1])); started.start(); started.wait(30); print(started.pid, flush=True)\n"
        "time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", parent_code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
