"""Loading other people's libraries: when they are used, and with the way out where they cannot be loaded.

A compiled library may be missing, or lack one of the system's own, or not fit the rest: whatever it raises while it is
imported becomes a `LibraryError`.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import threading
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any, Final

from searchanything.core.errors import LibraryError, SearchAnythingError
from searchanything.core.extras import extra_of, install_command

# What is to be installed where the module has another name.
PACKAGES: Final = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "open_clip": "open_clip_torch",
    "pi_heif": "pi-heif",
    "milvus_lite": "milvus-lite",
    "grpc": "grpcio",
    "google": "protobuf",
    "pydantic_settings": "pydantic-settings",
    "pkg_resources": "setuptools<81",
}
_NOT_INSTALLED: Final = "No module named"
_SHARED_LIBRARY: Final = re.compile(r"(lib[\w.+-]+\.so[.\d]*)")
_OTHER_BUILD: Final = "operator torchvision::"


class LazyModule(ModuleType):
    """A module that is imported when one of its names is first asked for. Raises: LibraryError then."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._lock = threading.Lock()

    def __getattr__(self, attribute: str) -> Any:  # noqa: ANN401 - whatever the module holds
        if attribute.startswith("__"):  # what inspection looks for is no use of the module
            raise AttributeError(attribute)
        with self._lock, importing():
            module = importlib.import_module(self.__name__)
        value = getattr(module, attribute)
        setattr(self, attribute, value)
        return value


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """For a block of imports alone. Raises: LibraryError in place of whatever they raise."""
    try:
        yield
    except SearchAnythingError:
        raise
    except Exception as error:
        raise library_error(error) from error


def raised_by_import(error: BaseException) -> bool:
    """Whether an error came out of an import, wherever that was made: the code of some module was being run."""
    return isinstance(error, ImportError) or any(frame.f_code.co_name == "<module>" for frame in _frames(error))


def library_error(error: Exception) -> LibraryError:
    """What an import raised, as an error of ours."""
    library = _culprit(error)
    reason = " ".join(str(error).split()) or type(error).__name__
    return LibraryError(library, reason, library_cure(library, reason))


def library_cure(library: str, reason: str) -> str:
    """How a library that cannot be loaded is brought to work."""
    package = PACKAGES.get(library, library)
    extra = extra_of(package.partition("<")[0]) if reason.startswith(_NOT_INSTALLED) else None
    if extra is not None:
        return install_command(extra)
    install = f'pip install --force-reinstall "{package}"'
    missing = _SHARED_LIBRARY.search(reason)
    if reason.startswith(_OTHER_BUILD):  # whichever library loads torchvision
        return (
            "torch and torchvision come from different builds: install both from one index, such as PyPI: "
            'pip install --force-reinstall "torch" "torchvision"'
        )
    if library == "cv2" and missing:
        return (
            "opencv-python wants the libraries of a desktop, the headless build does not: "
            f'pip uninstall -y opencv-python opencv-contrib-python && pip install --force-reinstall "{package}"'
        )
    if missing:
        return f"install the system's package that holds {missing[1]}, or: {install}"
    return install


def _culprit(error: Exception) -> str:
    """The innermost foreign package of the import: where it broke, whatever else imports that one."""
    missing = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and missing:
        return str(missing).partition(".")[0]
    modules = (str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in _frames(error))
    foreign = [
        one for one in modules if one not in sys.stdlib_module_names and one not in ("searchanything", "__main__")
    ]
    return foreign[-1] if foreign else str(missing or "a library").partition(".")[0]


def _frames(error: BaseException) -> Iterator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next
