"""The shared embedded server: one per file whatever happens, gone when nobody uses it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE

import pytest
from integration.lite_processes import kill, processes_of, wait_until, wait_until_ended

from searchanything.core.errors import IndexUnavailableError, SettingsError
from searchanything.core.settings import MilvusSettings
from searchanything.stores.lite_host import LiteHost
from searchanything.stores.milvus_opening import open_milvus

IDLE_S = 0.6


def host_of(file: Path, *, idle_s: float = IDLE_S, timeout_s: float = 30.0) -> LiteHost:
    return LiteHost(file, idle_s=idle_s, timeout_s=timeout_s)


def test_all_users_share_one_server_which_ends_after_the_last(file: Path) -> None:
    first, second = host_of(file), host_of(file)
    assert first.acquire() == second.acquire() == first.acquire()
    [server] = processes_of(file)["server"]
    first.release()
    first.release()
    time.sleep(2 * IDLE_S)
    assert processes_of(file)["server"] == [server], "it ended under a user"
    released = time.monotonic()
    second.release()
    wait_until_ended(file)
    assert time.monotonic() - released >= IDLE_S * 0.9
    assert first._served_address() is None


RACER = """
import sys
from pathlib import Path
from searchanything.stores.lite_host import LiteHost
host = LiteHost(Path(sys.argv[1]), idle_s=float(sys.argv[2]), timeout_s=30.0)
for say, do in (("here", lambda: None), ("in", host.acquire), ("out", host.release)):
    do()
    print(say, flush=True)
    sys.stdin.readline()
"""


def test_many_processes_racing_for_one_file_get_one_server(file: Path) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, str(file), str(IDLE_S)], stdin=PIPE, stdout=PIPE, text=True)
        for _ in range(8)
    ]
    servers: set[int] = set()
    with contextlib.ExitStack() as stack:
        for racer in racers:
            stack.enter_context(racer)
            stack.callback(racer.kill)
        assert {line_of(racer) for racer in racers} == {"here"}
        for racer in racers:
            go_on(racer)
        wait_until(lambda: servers.update(processes_of(file)["server"]) or servers)
        assert {line_of(racer) for racer in racers} == {"in"}
        servers.update(processes_of(file)["server"])
        assert len(servers) == 1
        for racer in racers:
            go_on(racer)
        assert {line_of(racer) for racer in racers} == {"out"}


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_arriving_while_the_server_is_leaving(file: Path) -> None:
    host = host_of(file, idle_s=0.05)
    for turn in range(12):
        address = host.acquire()
        assert Path(address).is_socket()
        assert len(processes_of(file)["server"]) == 1, f"turn {turn}"
        host.release()
        time.sleep(0.01 * turn)


@pytest.mark.parametrize("victim", ["server", "supervisor"])
def test_a_killed_server_or_supervisor_is_replaced(file: Path, victim: str) -> None:
    host, other = host_of(file), host_of(file)
    host.acquire()
    other.acquire()
    [before] = processes_of(file)["server"]
    kill(victim, file)
    wait_until(lambda: before not in processes_of(file)["server"])  # a server never outlives its supervisor
    host.acquire()
    other.acquire()
    [after] = processes_of(file)["server"]
    assert after != before
    host.release()
    other.release()


def test_one_server_ends_however_many_wait_for_the_next(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them has it started before who had the old one replaced has seen that it is gone."""
    start, starts, ended = LiteHost._start, list[LiteHost](), threading.Event()

    def counted_start(host: LiteHost, guard: int) -> None:
        starts.append(host)
        start(host, guard)

    def use() -> None:
        host = host_of(file)
        while not ended.is_set():
            host.acquire()
        host.release()

    host = host_of(file)
    host.acquire()
    monkeypatch.setattr(LiteHost, "_start", counted_start)
    with ThreadPoolExecutor() as threads:
        used = [threads.submit(use) for _ in range(4)]
        try:
            for number in range(1, 4):
                host.retire()
                host.acquire()
                assert len(starts) == number
        finally:
            ended.set()
        for one in used:
            one.result()
    host.release()


def test_a_killed_user_is_no_user(file: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from searchanything.stores.lite_host import LiteHost
host = LiteHost(Path({str(file)!r}), idle_s={IDLE_S}, timeout_s=30.0)
host.acquire()
print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "ready\n"
        assert len(processes_of(file)["server"]) == 1
        user.kill()
        assert user.stdout.read() == "", "the server holds the pipe of who started it"
    wait_until_ended(file)


def test_a_parent_that_reads_a_pipe_to_its_end_does_not_wait_for_the_server(file: Path) -> None:
    code = f"""
from pathlib import Path
from searchanything.stores.lite_host import LiteHost
LiteHost(Path({str(file)!r}), idle_s=3.0, timeout_s=30.0).acquire()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
    assert len(processes_of(file)["server"]) == 1


def test_a_forked_child_becomes_a_user_of_its_own(file: Path) -> None:
    host = host_of(file)
    address = host.acquire()
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        fine = host.acquire() == address
        os.write(told, b"1" if fine else b"0")
        time.sleep(3 * IDLE_S)
        os._exit(1 if host._served_address() is None else 0)
    assert os.read(ready, 1) == b"1"
    host.release()  # does not take away what the child holds
    assert os.waitpid(child, 0)[1] == 0
    os.close(ready)
    os.close(told)


@pytest.mark.parametrize("folder", ["with space", "grün", "100%41#x?", "f" * 120])
def test_folders_that_no_socket_can_lie_in(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tempfile.mkdtemp(prefix="sa-")  # tmp_path is too long for a socket
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    file = tmp_path / folder / "made" / "index.db"
    host = host_of(file)
    address = host.acquire()
    assert Path(address).parent.parent == Path(runtime)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    other = host_of(file)
    assert other.acquire() == address, "processes with another environment would not meet"
    store = open_milvus(MilvusSettings(uri=str(file), lite_idle_s=IDLE_S))
    assert store.live() is None
    for one in (host, other):
        one.release()
    store.close()
    wait_until_ended(file)
    shutil.rmtree(runtime)


def test_a_link_leads_to_the_same_server(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(file)
    hosts = [host_of(file), host_of(link)]
    assert hosts[0].acquire() == hosts[1].acquire()
    for host in hosts:
        host.release()


@pytest.mark.parametrize("name", ["a" * 37, "with space.db", "é.db", "a%b"])
def test_names_that_milvus_lite_cannot_open(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="36"):
        LiteHost(tmp_path / name, idle_s=1.0, timeout_s=1.0)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"this is a folder; try .*index\.db"):
        LiteHost(tmp_path, idle_s=1.0, timeout_s=1.0)


def test_a_file_of_another_program_is_told_by_its_first_bytes(file: Path) -> None:
    file.write_text("notes of mine")
    with pytest.raises(IndexUnavailableError, match=r"expected an embedded index .* begins with b'notes of mine'"):
        host_of(file).acquire()
    assert file.read_text() == "notes of mine"


def test_a_file_that_another_program_has_opened(file: Path) -> None:
    with file.with_name(".index.db.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)  # as milvus_lite does when it opens a file by its path
        with pytest.raises(IndexUnavailableError, match="another program"):
            host_of(file, timeout_s=5.0).acquire()


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IndexUnavailableError, match="index"):
        host_of(tmp_path / "file" / "index.db").acquire()


def test_writers_wait_for_each_other(file: Path) -> None:
    first, second = host_of(file), host_of(file, timeout_s=0.2)
    with first.writing(), pytest.raises(IndexUnavailableError, match="writer"), second.writing():
        pass
    with second.writing():
        pass


def test_reading_an_index_that_does_not_exist_makes_no_file(file: Path) -> None:
    with open_milvus(MilvusSettings(uri=str(file))) as store:
        assert (store.live(), store.manifests()) == (None, [])
    assert not file.parent.joinpath(".index.db.host").exists()
    assert not file.exists()


def test_a_server_that_starts_early_is_the_one_that_is_used(file: Path) -> None:
    first = host_of(file)
    first.acquire()
    first.release()
    wait_until_ended(file)
    host = host_of(file)
    host.start_early()
    wait_until(lambda: processes_of(file)["server"])
    [server] = processes_of(file)["server"]
    host.acquire()
    assert processes_of(file)["server"] == [server]
    host.release()
    wait_until_ended(file)


def test_an_early_start_that_nobody_waits_for_leaves_no_user(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.touch()
    host, late = host_of(file), threading.Event()
    acquire = host.acquire
    monkeypatch.setattr(host, "acquire", lambda **how: late.wait(30.0) and acquire(**how))
    host.start_early()
    threading.Timer(0.2, late.set).start()
    host.release()
    assert late.is_set(), "its user would have come after it left"
    wait_until_ended(file)


def test_an_early_start_makes_no_file(file: Path) -> None:
    host = host_of(file)
    host.start_early()
    host.release()
    assert not file.exists()
    assert not file.parent.joinpath(".index.db.host").exists()


def test_a_file_that_is_removed_while_its_server_starts_early_stays_removed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.touch()
    host = host_of(file)
    make_folder = host._make_folder
    monkeypatch.setattr(host, "_make_folder", lambda: (make_folder(), file.unlink()))
    host.start_early()
    host.release()
    assert not file.exists()
    assert not processes_of(file)["server"]


def test_what_an_early_start_meets_is_said_by_who_needs_the_server(
    file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file.write_text("notes of mine")
    host = host_of(file)
    host.start_early()
    with pytest.raises(IndexUnavailableError, match="notes of mine"):
        host.acquire()
    host.release()
    assert capfd.readouterr().err == ""


def test_whatever_an_early_start_meets_is_not_printed(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file.touch()
    host = host_of(file)
    folder = file.parent / ".index.db.host"
    folder.mkdir()
    (folder / "address").write_bytes(b"\xff\xfe")  # no text at all
    host.start_early()
    host.release()
    assert capfd.readouterr().err == ""


def test_who_comes_while_it_starts_in_vain_waits_no_second_time(file: Path) -> None:
    file.touch()
    host = host_of(file, timeout_s=0.2)
    host._lock.acquire()  # as an early start does that finds no server
    threading.Timer(2.0, host._lock.release).start()  # late enough for a busy machine to have asked before
    with pytest.raises(IndexUnavailableError, match="did not start: no answer within"):
        host.acquire()
    assert processes_of(file) == {"server": [], "supervisor": []}, "another start, for which nobody waits"
