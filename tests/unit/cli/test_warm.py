"""The warm process: the same answers by the same code, one process per environment, and none where none is wanted."""

from __future__ import annotations

import os
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from searchanything.cli import warm, warm_process
from searchanything.cli.entry import IDLE_VARIABLE
from searchanything.cli.warm import ask_warm, socket_path, take_guard
from searchanything.cli.warm_process import awaited_guard, serve_questions

QUESTION = ["query", "q.png", "--point", "1,2"]


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.delenv(IDLE_VARIABLE)
    for name in ("COLUMNS", warm.DEBUG_VARIABLE):  # the answerer sets them
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(warm, "_started", lambda _: None)  # no test starts a process by chance
    return folder


def listening_here() -> socket.socket:
    """A socket where this environment's process would listen."""
    place = socket_path()
    assert place is not None
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place))
    listener.listen()
    return listener


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Has a run function answer at this environment's socket, in a thread, until the test ends."""
    listeners: list[tuple[socket.socket, threading.Thread]] = []
    monkeypatch.setattr(os, "chdir", lambda _: None)  # the folder is this process's as well

    def answer_with(run: Callable[[Sequence[str]], int], *, idle_s: float = 60.0) -> None:
        listener = listening_here()
        thread = threading.Thread(target=serve_questions, args=[listener, run], kwargs={"idle_s": idle_s})
        thread.start()
        listeners.append((listener, thread))

    yield answer_with
    for listener, thread in listeners:
        listener.settimeout(0.01)  # once this last one has come and gone
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(listener.getsockname())
        thread.join()
        listener.close()


@pytest.fixture
def unasked() -> Iterator[socket.socket]:
    """A socket where nobody answers: who asks nevertheless waits for five seconds."""
    with listening_here() as listener:
        socket.setdefaulttimeout(5.0)
        yield listener
        socket.setdefaulttimeout(None)


def has_been_asked(listener: socket.socket) -> bool:
    """Whether somebody has connected, as to a warm process."""
    return bool(select.select([listener], [], [], 0)[0])


def test_what_it_prints_and_its_code_come_back(asked, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[dict[str, object]] = []
    monkeypatch.setattr(warm, "_print", printed.append)  # answerer and asker share this process's streams

    def run(arguments: Sequence[str]) -> int:
        sys.stdout.write(f"answer {' '.join(arguments)}: ä\n")
        sys.stderr.write("said\n")
        assert not sys.stderr.isatty()
        return 3

    asked(run)
    for _ in range(2):
        assert ask_warm(QUESTION) == 3
    assert printed == [{"out": "answer query q.png --point 1,2: ä\n"}, {"err": "said\n"}] * 2


@pytest.mark.parametrize(
    "arguments",
    [[], ["status"], ["index", "x"], [*QUESTION, "--no-warm"], ["query", "--help"], ["query", "-h"], ["--version"]],
    ids=" ".join,
)
def test_other_verbs_run_here(unasked: socket.socket, arguments: list[str]) -> None:
    assert ask_warm(arguments) is None
    assert not has_been_asked(unasked)


def test_zero_is_none(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IDLE_VARIABLE, "0")
    unasked = request.getfixturevalue("unasked")  # of this environment, which is another one
    assert ask_warm(QUESTION) is None
    assert not has_been_asked(unasked)


def test_each_environment_has_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    places = {socket_path(), socket_path()}
    assert len(places) == 1
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__URI", "other.db")
    places.add(socket_path())
    (tmp_path / "asked.env").write_text("SEARCHANYTHING_MODELS__THREADS=1")
    monkeypatch.setenv("UNRELATED", "1")
    places.add(socket_path())
    assert len(places) == 2
    monkeypatch.setenv("SEARCHANYTHING_ENV_FILE", "asked.env")
    places.add(socket_path())
    (tmp_path / "asked.env").write_text("SEARCHANYTHING_MODELS__THREADS=2")
    places.add(socket_path())
    monkeypatch.setenv("AWS_PROFILE", "other")
    places.add(socket_path())
    own = tmp_path / "config" / "searchanything" / "settings.env"
    own.parent.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    places.add(socket_path())
    own.write_text("SEARCHANYTHING_MODELS__THREADS=3")
    places.add(socket_path())
    assert len(places) == 7


def test_a_folder_that_others_can_enter_is_not_used() -> None:
    place = socket_path()
    assert place is not None
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    place.parent.chmod(0o755)
    assert socket_path() is None
    assert ask_warm(QUESTION) is None


@contextmanager
def killed_after(sent: bytes) -> Iterator[None]:
    """A process that takes a question and sends so much before it is killed."""
    with listening_here() as listener:
        listener.settimeout(20)

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(sent)

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize("sent", [b"", b'{"out": "an'])
def test_a_process_that_dies_before_it_answers_leaves_the_question_to_us(sent: bytes) -> None:
    with killed_after(sent):
        assert ask_warm(QUESTION) is None


@pytest.mark.parametrize("sent", [b"", b'{"out": "an'])
def test_a_process_that_dies_while_it_answers_is_an_error(sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with killed_after(b'{"out": "half\\n"}\n' + sent):
        assert ask_warm(QUESTION) == 1
    out, err = capfd.readouterr()
    assert out == "half\n"
    assert err.startswith("error: the process that answered was killed")


def test_one_process_at_a_time(runtime_folder: Path) -> None:
    place = runtime_folder / "socket"
    guard = take_guard(place)
    assert guard is not None
    assert take_guard(place) is None
    os.close(guard)
    again = take_guard(place)
    assert again is not None
    os.close(again)


def test_one_that_listens_is_not_waited_for(runtime_folder: Path) -> None:
    place = runtime_folder / "socket"
    guard = take_guard(place)
    assert guard is not None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        assert awaited_guard(place) is None
    os.close(guard)


@pytest.mark.parametrize("killed", [False, True])
def test_one_that_ends_is_waited_for(runtime_folder: Path, monkeypatch: pytest.MonkeyPatch, killed: bool) -> None:
    """Else nobody would listen, and who asks would wait for a minute. One that was killed leaves its socket behind."""
    place = runtime_folder / "socket"
    guard = take_guard(place)
    assert guard is not None
    if killed:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
    monkeypatch.setattr(time, "sleep", lambda _: os.close(guard))
    again = awaited_guard(place)
    assert again is not None
    os.close(again)


def test_one_that_neither_listens_nor_ends(runtime_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = take_guard(runtime_folder / "socket")
    assert guard is not None
    monkeypatch.setattr(warm_process, "_ENDING_S", 0.0)
    with pytest.raises(TimeoutError):
        awaited_guard(runtime_folder / "socket")
    os.close(guard)


def test_nobody_asks_and_it_ends(asked) -> None:
    others = set(threading.enumerate())  # other tests' servers may still have theirs
    asked(lambda _: 0, idle_s=0.05)
    deadline = time.monotonic() + 30
    while (left := set(threading.enumerate()) - others) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [one for one in left if one.name.startswith("Thread-")]


def test_a_real_process_answers_and_goes(runtime_folder: Path, tmp_path: Path) -> None:
    """Wrong usage needs no models: its answer comes from the process, and again from the same one."""
    program = "from searchanything.__main__ import main; main()"
    command = [sys.executable, "-c", program, "segment", "missing.png"]
    environment = {**os.environ, IDLE_VARIABLE: "3"}
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert "missing.png: no such file" in done.stderr
    [folder] = runtime_folder.iterdir()
    assert len(list(folder.glob("*.guard"))) == 1
    deadline = time.monotonic() + 120
    while any(not path.suffix for path in folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [path.suffix for path in folder.iterdir()] == [".guard"], "the process is still there"
