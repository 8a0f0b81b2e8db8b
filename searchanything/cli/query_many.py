"""`searchanything query-many`: the questions of a list, and a file with their answers."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.entry import INTERRUPTED
from searchanything.cli.failures import SOME_IMAGES_FAILED, cure_of, type_of
from searchanything.cli.options import CommonOptions, expanded, option
from searchanything.cli.progress import passing_progress
from searchanything.cli.prompting import FilterOptions, HitsOptions
from searchanything.cli.questions import MaxFalseMatch, listed_question
from searchanything.cli.session import answer, client_of, plain, say
from searchanything.core.counting import counted
from searchanything.core.errors import ObjectNotFoundError, SearchAnythingError, UsageError
from searchanything.core.escaping import printable

if TYPE_CHECKING:
    from searchanything.answers.question_lists import AnswerFile, ListedQuestion
    from searchanything.client.client import Client
    from searchanything.core.types import Filter

Questions = Annotated[
    Path,
    typer.Argument(metavar="QUESTIONS", help="A list of questions: a .csv or .jsonl file.", show_default=False),
]
Out = Annotated[Path, option("--out", "FILE", "The answers: .jsonl (a document each) or .csv (a row for each hit).")]


@expanded
def query_many(
    context: typer.Context,
    questions: Questions,
    page: HitsOptions,
    filter: FilterOptions,
    max_false_match: MaxFalseMatch = None,
    *,
    out: Out,
    common: CommonOptions,
) -> None:
    """Ask all questions of a list, and write their answers to a file.

    Each row of QUESTIONS is a question, with the columns (or keys) image, point, background, box, text and id, all of
    them optional: image is a file, s3://bucket/key or IMAGE#REGION; several points or boxes are separated by
    semicolons; text without image is words alone. A question that cannot be answered has its error in the answers, and
    the exit code is 3. After a kill, the same command goes on where it was.

    Examples: [bold]searchanything query-many questions.csv --out hits.csv --limit 5[/bold]

    [bold]searchanything query-many questions.jsonl --out hits.jsonl --group-by-image[/bold]
    """
    from searchanything.answers.question_lists import read_questions

    wanted = filter.filter()
    listed, digest = read_questions(questions)
    asked = {
        "questions": digest, "page": asdict(page), "filter": repr(wanted), "max_false_match": max_false_match,
    }  # fmt: skip
    try:
        with client_of(context, common) as client:
            while (
                answers := _answered(client, listed, (questions, out), asked, (page, wanted, max_false_match))
            ) is None:
                say("the index was given other models or another hash layer meanwhile: all are asked again, of it")
    except KeyboardInterrupt:
        say("stopped: what is answered stays; run the same command again to continue\ninterrupted")
        os._exit(INTERRUPTED)  # models may still be at work on a batch whose answers nobody waits for
    document = {"file": str(out), "questions": len(listed), "failed": answers.failed}
    said = f"{counted(len(listed), 'question')}, {answers.failed:,} without an answer; written to {out}"
    answer(document, common.format, lambda: plain(said))
    if answers.failed:
        raise typer.Exit(SOME_IMAGES_FAILED)


def _answered(
    client: Client,
    listed: list[ListedQuestion],
    files: tuple[Path, Path],
    asked: Mapping[str, Any],
    page: tuple[HitsOptions, Filter | None, float | None],
) -> AnswerFile | None:
    """The finished file of the answers; None where they would be of two indexes."""
    from searchanything.answers.question_lists import AnswerFile

    fingerprint = client.manifest.fingerprint
    of_index = {**asked, "uri": client.uri, "fingerprint": fingerprint}
    answers = AnswerFile.open(files[1], files[:1], of_index, [one.id for one in listed])
    with contextlib.closing(answers):
        if answers.done:
            say(f"going on after {counted(answers.done, 'answer')} of a run that did not end")
        try:
            _Asking(client, listed, answers, fingerprint, *page).ask_all()
        except _SwitchedError:
            answers.discard()
            return None
        answers.finish()
        return answers


class _SwitchedError(Exception):
    """Answers so far are of an index that is no longer live: distances and regions of both cannot be compared."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asking:
    """A list that is asked, from the first question on that has no answer yet, of the index of a fingerprint."""

    client: Client
    listed: list[ListedQuestion]
    answers: AnswerFile
    fingerprint: str
    page: HitsOptions
    filter: Filter | None
    max_false_match: float | None

    def ask_all(self) -> None:
        """Raises: _SwitchedError."""
        from searchanything.ingest.reports import IndexProgress

        waiting: deque[tuple[ListedQuestion, SearchAnythingError | None]] = deque()
        found = self.client.query_many(
            self._asked(waiting),
            limit=self.page.limit,
            filter=self.filter,
            group_by_image=self.page.group_by_image,
            max_false_match=self.max_false_match,
            rescore=self.page.rescore,
        )
        with passing_progress("asking") as show:
            for one in found:
                self._add_wrong(waiting)
                question, _ = waiting.popleft()
                error = one.error
                if isinstance(error, ObjectNotFoundError):  # it may be a region that the other models did not find
                    self._check_is_of(self.client.manifest.fingerprint)
                elif one.results is not None:
                    self._check_is_of(one.results.fingerprint)
                self.answers.add(_document(question, None if one.results is None else one.results.to_dict(), error))
                done, failed = self.answers.done, self.answers.failed
                show(IndexProgress(done, len(self.listed), done - failed, failed, "", total_is_final=True))
            self._add_wrong(waiting)

    def _check_is_of(self, fingerprint: str) -> None:
        if fingerprint != self.fingerprint:
            raise _SwitchedError

    def _asked(self, waiting: deque[tuple[ListedQuestion, SearchAnythingError | None]]) -> Iterator[Any]:
        """What is asked, each noted; one that is wrong in itself is noted with its error and not asked."""
        for question in self.listed[self.answers.done :]:
            try:
                asked = listed_question(self.client, question)
            except UsageError as error:
                waiting.append((question, error))
                continue
            waiting.append((question, None))
            yield asked

    def _add_wrong(self, waiting: deque[tuple[ListedQuestion, SearchAnythingError | None]]) -> None:
        while waiting and waiting[0][1] is not None:
            question, error = waiting.popleft()
            self.answers.add(_document(question, None, error))


def _document(
    question: ListedQuestion, found: Mapping[str, Any] | None, error: SearchAnythingError | None
) -> dict[str, Any]:
    """An answer: what `searchanything query --format json` prints of it, or the error."""
    said = None
    if error is not None:
        said = {"type": type_of(error), "message": printable(str(error)), "cure": cure_of(error)}
    return {"id": question.id, "image": str(question.fields.get("image") or ""), "answer": found, "error": said}
