"""ultralytics, the program that FastSAM's weights come from, as the peer that ours is compared with.

At import it creates a settings file in the home, looks for a network, registers analytics, replaces `torch.save` and
Pillow's `Image.open`, turns off OpenCV's threads, sets `OMP_NUM_THREADS` and logs to stdout: prevented, or put back.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

_lock = threading.Lock()


def import_ultralytics() -> Any:
    """The module `ultralytics.nn.tasks`, imported in silence the first time."""
    with _lock:
        if "ultralytics" not in sys.modules:
            with tempfile.TemporaryDirectory(prefix="searchanything-") as folder, _state_kept():
                _silence(Path(folder))
                importlib.import_module("ultralytics.nn.tasks")
            # Its handler writes to stdout, where the command line promises nothing but its own document.
            logger = logging.getLogger("ultralytics")
            logger.handlers.clear()
            logger.propagate = True
        return importlib.import_module("ultralytics.nn.tasks")


def _silence(folder: Path) -> None:
    """Prepare the environment that ultralytics reads at import; `folder` takes the place of the user's home."""
    settings = folder / "Ultralytics" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"sync": False}), encoding="utf-8")  # sync: analytics and crash reports
    os.environ.update(
        YOLO_CONFIG_DIR=str(folder),
        YOLO_OFFLINE="1",
        YOLO_AUTOINSTALL="0",
        YOLO_VERBOSE="0",
        ULTRALYTICS_SAFE_LOAD="1",
    )


@contextmanager
def _state_kept() -> Iterator[None]:
    """Put the process's own state back: environment, threads, print options, warnings, `torch.save`, `Image.open`."""
    environment, threads = dict(os.environ), cv2.getNumThreads()
    save, image_open = torch.save, Image.open
    try:
        with np.printoptions(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        cv2.setNumThreads(threads)
        torch.save = save
        Image.open = image_open
        torch.set_printoptions(profile="default")  # type: ignore[no-untyped-call]
