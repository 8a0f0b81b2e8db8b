"""What was measured on this machine, kept for the next process: a small file for each question.

A file holds its question as well as the answer. Whatever is damaged, of another version or of another machine is no
answer, and is written anew. Files appear whole, so processes that measure at the same time do no harm.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from searchanything.core.errors import UsageError
from searchanything.core.files import write_whole
from searchanything.core.processor import processor_name
from searchanything.models.cores import all_threads

ModelFacts: TypeAlias = Mapping[str, str | int | float]
VERSION: Final = 1  # of how things are measured: raise it when older answers no longer count


@dataclass(frozen=True, slots=True)
class Measurements:
    """Answers in a folder; with None nothing is kept."""

    folder: Path | None

    def find(self, question: ModelFacts) -> Mapping[str, Any]:
        """What was measured; nothing where it was not, or cannot be read."""
        if self.folder is None:
            return {}
        try:
            document = json.loads(self._file(self.folder, question).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(document, dict) or document.get("question") != dict(question):
            return {}
        answer = document.get("answer")
        return answer if isinstance(answer, dict) else {}

    def keep(self, question: ModelFacts, answer: Mapping[str, Any]) -> None:
        """Keep an answer; a folder that cannot be written only costs the next measurement."""
        if self.folder is None:
            return
        text = json.dumps({"question": dict(question), "answer": dict(answer)}, indent=1)
        with suppress(OSError, UsageError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._file(self.folder, question), lambda file: file.write(text.encode()))

    @staticmethod
    def _file(folder: Path, question: ModelFacts) -> Path:
        canonical = json.dumps(dict(question), sort_keys=True)
        return folder / f"{sha256(canonical.encode()).hexdigest()[:32]}.json"


NOT_KEPT: Final = Measurements(None)


def machine_facts(device: torch.device) -> dict[str, str | int | float]:
    """What a time depends on besides the model: the device, on a CPU its threads, and who computes."""
    facts: dict[str, str | int | float] = {"measured_by": VERSION, "torch": torch.__version__}
    if device.type == "cuda":
        return {**facts, "device": torch.cuda.get_device_name(device)}
    if device.type == "cpu":
        return {**facts, "device": processor_name(), "threads": all_threads()}
    return {**facts, "device": f"{device.type} {platform.machine()}"}
