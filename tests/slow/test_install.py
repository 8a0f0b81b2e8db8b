"""The wheel in an empty environment, by plain pip and by uv: it loads without a desktop's libraries, and works.

Run by hand, it downloads gigabytes:

    pytest -m slow -s tests/slow/test_install.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def call(*command: str | Path, cwd: Path, **variables: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), **variables}
    environment |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def no_desktop_library_is_needed(environment: Path) -> None:
    """Whatever is installed under the name cv2 asks the system for none of X11's and OpenGL's libraries."""
    (library,) = environment.glob("lib/python3*/site-packages/cv2/*.so")
    needed = call("ldd", library, cwd=environment)
    assert not [line for line in needed.splitlines() if "libGL" in line or "libX" in line or "not found" in line]


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_the_wheel_works_where_it_is_installed_alone(tool: str, tmp_path: Path) -> None:
    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "dist", ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").iterdir()
    environment, began = tmp_path / "env", time.monotonic()
    call(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    if tool == "pip":
        call(python, "-m", "pip", "install", "-q", "--no-cache-dir", f"{wheel}[local]", cwd=tmp_path)
    else:
        uv = Path(sys.executable).with_name("uv")
        call(uv, "pip", "install", "-q", "--no-cache", "--python", python, f"{wheel}[local]", cwd=tmp_path)
    seconds = time.monotonic() - began
    size = sum(path.stat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    sys.stdout.write(
        f"\n{tool}: {seconds:.0f} s, {size / 1e6:,.0f} MB on disk, wheel {wheel.stat().st_size / 1e6:.1f} MB\n"
    )
    no_desktop_library_is_needed(environment)
    program = environment / "bin" / "searchanything"
    assert json.loads(call(program, "doctor", "--preset", "pico", "--format", "json", cwd=tmp_path))["ok"]
    call(program, "demo", "--scenes", "images", "--count", "3", cwd=tmp_path)
    report = json.loads(call(program, "index", "images", "--preset", "pico", "--format", "json", cwd=tmp_path))
    assert report["images"]["indexed"] == 3
