"""`searchanything serve` as a process: it says where it listens, answers, and ends cleanly when it is told to."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

START_S = 120.0


def waited_for(process: subprocess.Popen[bytes], log: Path, pattern: str) -> str:
    """What the process wrote, once it has."""
    deadline = time.monotonic() + START_S
    while (found := re.search(pattern, log.read_text())) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(0.1)
    return found[1]


@pytest.mark.parametrize("wish", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_starts_answers_and_ends(tmp_path: Path, wish: signal.Signals) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "searchanything.cli.app", "serve", "--uri", "memory://", "--port", "0"]
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, by what is started as well
    try:
        with log.open("w") as stream:
            process = subprocess.Popen(command, stderr=stream, stdout=stream, cwd=tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        url = waited_for(process, log, r"at (http://127\.0\.0\.1:\d+)")
        with urllib.request.urlopen(f"{url}/v1/server") as response:  # noqa: S310 - our own
            assert json.load(response)["server"] == "searchanything"
        process.send_signal(wish)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
    assert "Traceback" not in log.read_text()


ENDLESS = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from searchanything.cli.app import run
from searchanything.client.client import Client
from searchanything.serve import run as serving
from searchanything.serve.desk import Desk

def never(*_):
    print("working", flush=True)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(threading.Event().wait).result()

Desk.status = Client.close = never
serving._GRACE_S = 1
sys.exit(run(["serve", "--uri", "memory://", "--port", "0"]))
"""


def test_it_ends_although_work_does_not(tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = os.environ | {"SEARCHANYTHING_SERVE__PRELOAD": "false"}
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS], stderr=stream, stdout=stream, cwd=tmp_path, env=environment
        )
    try:
        port = int(waited_for(process, log, r"at http://127\.0\.0\.1:(\d+)"))
        with socket.create_connection(("127.0.0.1", port)) as asking:
            asking.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            waited_for(process, log, "(working)")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "before all work was done" in log.read_text()


def test_it_does_not_listen_to_others_without_a_key(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "searchanything.cli.app",
        "serve",
        "--uri",
        str(tmp_path / "i.db"),
        "--host",
        "0.0.0.0",  # noqa: S104 - it must refuse
    ]
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 2
    assert "keys add" in done.stderr
