"""Lists of questions in files (CSV or JSON Lines), and the files of their answers.

Answers are collected beside the file that is wanted, a line of JSON each. Who was killed goes on behind the last line
that is whole and in its place; the wanted file appears as a whole, when all are answered.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Self

from searchanything.core.errors import PromptError, UsageError
from searchanything.core.files import check_save_path, check_writable, write_whole
from searchanything.core.reading import read_file
from searchanything.prompts.prompt import Points, Prompt, Prompts

logger = logging.getLogger(__name__)

LISTS: Final = (".csv", ".jsonl")
_FIELDS: Final = ("id", "image", "point", "background", "box", "text")
_ANSWER: Final = {"id", "image", "answer", "error"}
_COLUMNS: Final = (
    "id", "image", "rank", "match", "bits", "similarity", "false_match", "bucket", "key", "region",
    "x1", "y1", "x2", "y2", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ListedQuestion:
    """One question of a list: its `id` (the number of its row, from 1, where it has none), and the fields given."""

    id: str
    fields: Mapping[str, Any]

    @property
    def image(self) -> str:
        """The image as it is named; "" for words alone. Raises: UsageError."""
        image = self.fields.get("image", "")
        if image is None:
            return ""
        if not isinstance(image, str):
            raise UsageError(f"image: expected a path, s3://bucket/key or IMAGE#REGION, got {image!r}")
        return image

    def prompt(self) -> Prompt | None:
        """None where the row has none. Raises: PromptError."""
        foreground, background = (_numbers(self.fields, name, "X,Y") for name in ("point", "background"))
        boxes, text = _numbers(self.fields, "box", "X1,Y1,X2,Y2"), self.fields.get("text")
        if text == "":
            text = None
        if text is not None and not isinstance(text, str):
            raise PromptError(f"text: expected words, got {text!r}")
        if boxes or text is not None:
            return Prompts(boxes, foreground, background, text).simplest()
        return Points(foreground, background) if foreground or background else None


def read_questions(path: Path) -> tuple[list[ListedQuestion], str]:
    """The questions of a file, and the sha256 of its bytes. Raises: UsageError for a file that is no such list."""
    if path.suffix.lower() not in LISTS:
        raise UsageError(f"{path}: expected a list of questions, a name that ends in {' or '.join(LISTS)}")
    try:
        data = read_file(path)
        rows = list((_csv_rows if path.suffix.lower() == ".csv" else _json_rows)(data.decode("utf-8-sig")))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as a list of questions: {error}") from error
    questions = []
    for number, row in enumerate(rows, start=1):
        if unknown := [name for name in row if name not in _FIELDS]:
            raise UsageError(f"{path}, question {number}: {unknown[0]!r} is none of {', '.join(_FIELDS)}")
        name = row.get("id")
        questions.append(ListedQuestion(str(number) if name in (None, "") else str(name), row))
    return questions, hashlib.sha256(data).hexdigest()


def _csv_rows(text: str) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    names = reader.fieldnames or ()
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise ValueError(f"two columns are called {twice[0]!r}")
    for row in reader:
        if "" in row or None in row.values():
            raise ValueError(f"a row has more or fewer columns than the first line: {list(row.values())}")
        yield {name: value for name, value in row.items() if value}


def _json_rows(text: str) -> Iterator[dict[str, Any]]:
    for line in text.split("\n"):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"expected an object on each line, got {line[:80]}")
            yield row


def _numbers(fields: Mapping[str, Any], name: str, form: str) -> list[list[float]]:
    """Rows of as many numbers as the form has names: lists of them, or text such as `12,34;56,78`."""
    value, length = fields.get(name), form.count(",") + 1
    if value is None or value == "":
        return []
    rows = [part.split(",") for part in value.split(";")] if isinstance(value, str) else value
    if isinstance(rows, list) and rows and not isinstance(rows[0], list):
        rows = [rows]
    is_table = isinstance(rows, list) and all(isinstance(row, list) for row in rows)
    try:
        found = [[float(number) for number in row] for row in rows] if is_table else [[]]
    except (TypeError, ValueError):
        found = [[]]
    if any(len(row) != length for row in found):
        raise PromptError(f"{name}: expected {form} in pixels of the image, got {value!r}")
    return found


@dataclass(slots=True, eq=False)
class AnswerFile:
    """The answers so far, in `part`; `done` of them were there when it was opened."""

    target: Path
    part: Path
    _file: IO[bytes] = field(repr=False)
    done: int = 0
    failed: int = 0

    @classmethod
    def open(cls, target: Path, inputs: Sequence[Path], asked: Mapping[str, Any], ids: Iterable[str]) -> Self:
        """Beside the target, for what is `asked` by questions of these ids: another list or page has another part.

        Raises: UsageError for a place that cannot be written, and while another process writes the same.
        """
        check_writable(check_save_path(target, LISTS, inputs=inputs))
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
        part = target.with_name(f".{target.name}.{digest}.part")
        made = cls(target, part, _locked(part, target))
        made._go_on(ids)
        return made

    def _go_on(self, ids: Iterable[str]) -> None:
        """Count the answers that are whole and in their places, and drop what comes behind them: it is asked again."""
        self._file.seek(0)
        whole = 0
        for name, line in zip(ids, self._file, strict=False):
            answer = _whole_answer(line)
            if answer is None or answer["id"] != name:
                if line.endswith(b"\n"):  # not a torn one at the end
                    logger.warning("%s is damaged at line %d: asked again from there on", self.part, self.done + 1)
                break
            whole += len(line)
            self.done += 1
            self.failed += answer["error"] is not None
        self._file.truncate(whole)

    def add(self, document: Mapping[str, Any]) -> None:
        """One more answer, which a kill of this process leaves there. Raises: UsageError where it cannot be written."""
        try:
            line = json.dumps(document, ensure_ascii=False, allow_nan=False)
            self._file.write(
                line.encode(errors="backslashreplace") + b"\n"
            )  # half a surrogate is JSON's own escape then
            self._file.flush()
        except OSError as error:
            raise UsageError(
                f"{self.part} cannot be written: {error.strerror or error}; what is in it stays, and the same command "
                "goes on behind it"
            ) from error
        self.done += 1
        self.failed += document["error"] is not None

    def finish(self) -> None:
        """All are there: make the file that is wanted. Raises: UsageError for a place that cannot be written."""
        try:
            os.fsync(self._file.fileno())
            if self.target.suffix.lower() == ".csv":
                write_whole(self.target, self._write_csv)
                self.part.unlink()
            else:
                self.part.replace(self.target)
        except OSError as error:
            raise UsageError(f"{self.target} cannot be written: {error.strerror or error}") from error

    def discard(self) -> None:
        """Remove what is there: nobody goes on behind it."""
        self.part.unlink(missing_ok=True)

    def _write_csv(self, file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")  # as `add` does
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        with self.part.open("rb") as lines:
            for line in lines:
                writer.writerows(_csv_answer(json.loads(line)))
        text.detach()  # which writes all that is left

    def close(self) -> None:
        """Leave what is there to whoever goes on. What a full disk did not take was said by `add`."""
        with contextlib.suppress(OSError):
            self._file.close()


def _locked(part: Path, target: Path) -> IO[bytes]:
    """The file of the answers so far, which no other process has. Raises: UsageError."""
    while True:
        try:
            file = part.open("a+b")
        except OSError as error:  # such as another user's
            raise UsageError(f"{part} cannot be written: {error.strerror or error}; name another place") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
                return file
        except BlockingIOError as error:
            file.close()
            raise UsageError(f"{target} is being written by another process") from error
        except OSError as error:
            file.close()
            raise UsageError(f"{part} cannot be locked: {error.strerror or error}; name another place") from error
        file.close()  # another process has just made it the file that it wanted


def _whole_answer(line: bytes) -> Mapping[str, Any] | None:
    """The answer of a line; None for half a line, and for what `AnswerFile.add` never wrote."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    is_answer = (
        isinstance(found, dict) and found.keys() == _ANSWER and (found["answer"] is None) != (found["error"] is None)
    )
    return found if is_answer else None


def _csv_answer(document: Mapping[str, Any]) -> Iterator[list[Any]]:
    """A row for each hit; one without a hit for a question that has none."""
    head, error = [document["id"], document["image"]], document["error"]
    if error is not None or not document["answer"]["hits"]:
        yield [*head, *[""] * 12, "" if error is None else f"{error['type']}: {error['message']}"]
        return
    for rank, hit in enumerate(document["answer"]["hits"], start=1):
        word = hit["confidence"]["word"] if hit["confidence"] else ""
        figures = [hit["distance_bits"], hit["similarity"], hit["false_match"]]
        yield [*head, rank, word, *figures, hit["bucket"], hit["key"], hit["region"], *hit["box_xyxy"], ""]
