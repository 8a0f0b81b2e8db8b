"""Prefect's settings, as a task takes them along to its worker: written once, built once in each worker process.

Prefect writes them anew with each task, as a dictionary, and has the worker build its 54 models of settings from it,
each of which looks through the environment again: 40 to 50 ms on either side, in which no model runs.
"""

from __future__ import annotations

import pickle
from functools import lru_cache
from typing import Any

from prefect.context import SettingsContext
from prefect.settings import Settings


class SentSettings:
    """The settings of a process as bytes; in a worker they become `Settings` when they are unpickled."""

    def __init__(self) -> None:
        context = SettingsContext.get()
        if context is None:
            raise RuntimeError("expected Prefect's settings, which it reads when it is imported")
        self._context = context
        written = context.serialize()
        self._profile = written["profile"]
        self._packed = pickle.dumps(written["settings"])

    def __reduce__(self) -> tuple[Any, ...]:
        return built, (self._packed,)

    def context(self) -> SettingsContext:
        """The settings as they are, for the length of a block; whatever is sent to a worker in it takes these bytes."""
        context = _SentContext(profile=self._context.profile, settings=self._context.settings)
        context._sent = {"profile": self._profile, "settings": self}  # noqa: SLF001  no field of the model
        return context


class _SentContext(SettingsContext):
    _sent: dict[str, Any]

    def serialize(self, include_secrets: bool = True) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002
        """What Prefect puts into a task's context."""
        return self._sent


@lru_cache(maxsize=4)
def built(packed: bytes) -> Settings:
    """The settings, as Prefect builds them in a worker: what was not sent comes from the worker's own environment."""
    return Settings(**pickle.loads(packed))  # noqa: S301  from the coordinator, like the task itself
