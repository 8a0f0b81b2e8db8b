"""`searchanything serve` as a process: it says where it listens, answers, and ends cleanly when it is told to."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

START_S = 120.0


@pytest.mark.parametrize("wish", [signal.SIGTERM, signal.SIGINT])
def test_it_starts_answers_and_ends(tmp_path: Path, wish: signal.Signals) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "searchanything.cli.app", "serve", "--uri", "memory://", "--port", "0"]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, stdout=stream, cwd=tmp_path)
    try:
        deadline = time.monotonic() + START_S
        while (found := re.search(r"at (http://127\.0\.0\.1:\d+)", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "it did not start"
            time.sleep(0.1)
        with urllib.request.urlopen(f"{found[1]}/v1/server") as response:  # noqa: S310 - our own
            assert json.load(response)["server"] == "searchanything"
        process.send_signal(wish)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
    assert "Traceback" not in log.read_text()


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
