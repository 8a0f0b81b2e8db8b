"""`sync`, `failed` and `index --estimate` against a hand-written client."""

from __future__ import annotations

import json

import pytest

from searchanything.cli.app import run
from searchanything.core.errors import IndexUnavailableError
from searchanything.core.skips import Skipped
from searchanything.core.types import ImageRef
from searchanything.images.names import SkipReason
from searchanything.images.scopes import Patterns
from searchanything.ingest.reports import Estimate, FailedImage, Failure, IndexProgress, IndexReport, SyncReport

FAILED = FailedImage(
    ImageRef("b", "k[red].jpg"), "e", "ImageError", "is cut off", 3, 1_760_000_000_000, 1_760_000_060_000, True
)
BAD = IndexReport(failed=1, failures=(Failure("x.jpg", "ImageError", "is cut off"),))


class FakeClient:
    """Answers what it is given, and remembers what it was asked."""

    def __init__(self, report: object = None, error: Exception | None = None) -> None:
        self.report = report
        self.error = error
        self.calls: list[tuple[object, ...]] = []

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None: ...

    def _answer(self, *call: object) -> object:
        print("chatter")  # noqa: T201  what libraries do
        self.calls.append(call)
        if self.error:
            raise self.error
        return self.report

    def sync(self, source, *, repair=False, forget=False, patterns, progress):
        progress(IndexProgress(1, None, 0, 0, "k"))
        return self._answer("sync", source, repair, patterns, *(["forget"] if forget else []))

    def index(self, source, *, hash_file, force, prune, add_words, patterns, progress):  # noqa: ARG002
        progress(IndexProgress(1, None, 0, 0, "k"))
        return self._answer("index", source, prune)

    def failures(self, source):
        return self._answer("failures", source)

    def retry_failed(self, source, *, progress):
        progress(IndexProgress(1, None, 0, 1, "k"))
        return self._answer("retry", source)

    def drop_failed(self, source, *, progress):  # noqa: ARG002
        return self._answer("drop", source)

    def estimate(self, source, *, patterns, progress):
        progress(IndexProgress(1, 1, 1, 0, "k"))
        return self._answer("estimate", source, patterns)


def call(client: FakeClient, *arguments: str) -> int:
    return run(arguments, connect=lambda *_: client)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("verb", "report", "code"),
    [
        ("check", SyncReport(("m",), ("s1", "s2"), ("o",), (), 9), 0),
        ("check", SyncReport(failed=("f",), checked=3), 3),
        ("repair", SyncReport(("m",), checked=9, repaired=IndexReport(indexed=1), garbage=2), 0),
        ("repair", SyncReport(failed=("f",), checked=9, repaired=IndexReport(exhausted=1)), 3),
        ("repair", SyncReport(missing=("x.jpg",), checked=9, repaired=BAD), 3),
    ],
)
def test_sync_names_what_differs(verb, report, code, capsys):
    client = FakeClient(report)
    assert call(client, "sync", verb, "src", "--format", "json") == code
    document = json.loads(capsys.readouterr().out)
    assert {name: tuple(document[name]) for name in ("missing", "stale", "orphaned", "failed")} == {
        "missing": report.missing, "stale": report.stale, "orphaned": report.orphaned, "failed": report.failed,
    }  # fmt: skip
    assert document["checked"] == report.checked
    assert ("repaired" in document) == (verb == "repair") == client.calls[0][2]
    assert call(client, "sync", verb, "src") == code
    text = capsys.readouterr().out
    assert all(f"{key}\n" in text for key in (*report.missing, *report.stale, *report.orphaned, *report.failed))


def test_a_check_of_a_place_where_nothing_is_says_so(capsys):
    assert call(FakeClient(SyncReport()), "sync", "check", "s3://b/typo\x1b", "--format", "json") == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out)["checked"] == 0
    assert "nothing under s3://b/typo\\x1b, neither" in printed.err
    assert call(FakeClient(SyncReport(repaired=IndexReport())), "sync", "repair", "src") == 3
    assert "nothing under src, neither" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["check", "repair"])
def test_a_place_without_an_image_says_what_is_there(verb, capsys):
    skips = (Skipped(SkipReason.UNREAD, 1, ("a.svg",), ((".svg", 1),)),)
    repaired = IndexReport() if verb == "repair" else None
    assert call(FakeClient(SyncReport(skips=skips, repaired=repaired)), "sync", verb, "src") == 3
    said = capsys.readouterr().err
    assert "1 file under src, which is no image: 1 .svg; convert .svg to JPEG, PNG or TIFF" in said
    assert "nothing under" not in said
    assert call(FakeClient(SyncReport(skips=skips, repaired=repaired, checked=1)), "sync", verb, "src") == 0


GONE = tuple(f"{number:02}.jpg" for number in range(30))


@pytest.mark.parametrize("verb", ["check", "repair"])
def test_a_sync_that_holds_back_says_so_and_names_the_way_out(verb, capsys):
    orphaned, repaired = ("gone.jpg", *GONE), IndexReport() if verb == "repair" else None
    report = SyncReport(orphaned=orphaned, held=GONE, checked=1, repaired=repaired)
    assert call(FakeClient(report), "sync", verb, "src", "--format", "json") == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["orphaned"], document["held"]) == (list(orphaned), list(GONE))
    assert call(FakeClient(report), "sync", verb, "src") == 3
    text = capsys.readouterr().out
    assert "held back: 30 images are gone from the listing" in text
    assert "searchanything sync repair SOURCE --forget" in text
    assert "held back: 19.jpg\n… and 10 more held back" in text
    first, *others = [line for line in text.splitlines() if "orphaned" in line]
    assert "31 orphaned" in first
    assert first.endswith("30 of the orphaned held back")
    assert others == ["orphaned: gone.jpg"]


def test_forget_goes_along(capsys):
    client = FakeClient(SyncReport(orphaned=GONE, repaired=IndexReport(deleted=30)))
    assert call(client, "sync", "repair", "src", "--forget") == 0
    assert client.calls == [("sync", "src", True, None, "forget")]
    assert "held back" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "report", "code", "told"),
    [
        ([], IndexReport(unchanged=9, gone=2), 0, "gone: 2 indexed images are no longer there"),
        ([], IndexReport(gone=2), 3, "gone: 2 indexed images are no longer there"),  # the source is empty
        (["--prune"], IndexReport(unchanged=9, deleted=2), 0, None),
        (["--prune"], IndexReport(gone=30, held=GONE), 3, "held back: 30 images are gone"),
        (["--prune"], IndexReport(unchanged=9, gone=2), 0, "gone: 2 images are no longer there since the listing"),
    ],
)
def test_index_tells_what_is_gone(options, report, code, told, capsys):
    client = FakeClient(report)
    assert call(client, "index", "src", *options) == code
    text = capsys.readouterr().out
    assert told in text if told else "gone" not in text
    assert ("--prune" in text) is (report.gone > 0 and not options), "what was run is no advice"
    assert ("searchanything sync repair" in text) == bool(report.held or "can still be hits" in text)
    assert ("forgotten: 2 images that SOURCE no longer holds" in text) == bool(report.deleted)
    assert client.calls == [("index", "src", bool(options))]
    assert call(client, "index", "src", *options, "--format", "json") == code
    document = json.loads(capsys.readouterr().out)
    assert (document["gone"], document["held"]) == (report.gone, list(report.held))


def test_patterns_go_along(capsys):
    client = FakeClient(SyncReport(checked=1))
    assert call(client, "sync", "check", "src", "--include", "*.jpg", "--include", "a/*", "--exclude", "b*") == 0
    assert client.calls == [("sync", "src", False, Patterns(("*.jpg", "a/*"), ("b*",)))]
    assert call(client, "sync", "check", "src") == 0
    assert client.calls[1][3] is None  # the settings decide
    capsys.readouterr()


def test_many_keys_are_shown_in_part_and_listed_whole(capsys):
    client = FakeClient(SyncReport(missing=tuple(f"{number:03}" for number in range(30))))
    assert call(client, "sync", "check", "src") == 0
    text = capsys.readouterr().out
    assert "missing: 019\n… and 10 more missing" in text
    assert call(client, "sync", "check", "src", "--format", "json") == 0
    assert len(json.loads(capsys.readouterr().out)["missing"]) == 30


def test_failed_list_tells_reason_attempts_and_times(capsys):
    client = FakeClient([FAILED])
    assert call(client, "failed", "list", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "failed": [
            {"bucket": "b", "key": "k[red].jpg", "etag": "e", "error": "ImageError", "message": "is cut off",
             "attempts": 3, "first_at_ms": 1_760_000_000_000, "last_at_ms": 1_760_000_060_000, "exhausted": True}
        ]
    }  # fmt: skip
    assert call(client, "failed", "list", "s3://b/in/") == 0
    text = capsys.readouterr().out
    assert "b/k[red].jpg: ImageError: is cut off (3 attempts, 2025-10-09 08:53:20+00:00 to" in text
    assert client.calls == [("failures", None), ("failures", "s3://b/in/")]


@pytest.mark.parametrize(("report", "code"), [(IndexReport(indexed=1), 0), (BAD, 3)])
def test_failed_retry_answers_as_index_does(report, code, capsys):
    assert call(FakeClient(report), "failed", "retry", "--format", "json") == code
    assert json.loads(capsys.readouterr().out)["images"]["failed"] == report.failed


def test_failed_drop_tells_how_many(capsys):
    assert call(FakeClient(4), "failed", "drop", "src", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"source": "src", "dropped": 4}


ESTIMATE = Estimate(
    images=1_000_000, bytes=2 * 10**12, regions=25_000_000, images_per_s=10.0, seconds=100_012.0, disk_bytes=26 * 10**9,
    index_memory_bytes=23 * 10**9, worker_memory_bytes=10**9, sample=IndexReport(indexed=32), load_seconds=12.0,
    disk_free_bytes=20 * 10**9,
)  # fmt: skip


def test_an_estimate_tells_time_size_and_memory(capsys):
    client = FakeClient(ESTIMATE)
    assert call(client, "index", "src", "--estimate", "--exclude", "b*", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["images"], document["seconds"], document["fits"]) == (1_000_000, 100_012.0, False)
    assert document["memory_bytes"] == {"index": 23 * 10**9, "worker": 10**9}
    assert client.calls == [("estimate", "src", Patterns((), ("b*",)))]
    assert call(client, "index", "src", "--estimate") == 0
    text = capsys.readouterr().out
    assert "1 day, 3:46:52 at 10.00 images/s" in text
    assert "26.00 GB of 20.00 GB free" in text
    assert "would not fit" in text


def test_an_estimate_that_forces_is_wrong_usage(capsys):
    assert call(FakeClient(ESTIMATE), "index", "src", "--estimate", "--force") == 2
    assert "--estimate cannot be combined" in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb", [["sync", "check", "s"], ["sync", "repair", "s"], ["failed", "list"], ["failed", "drop"]]
)
def test_an_index_that_is_gone_is_an_error_and_no_difference(verb, capsys):
    assert call(FakeClient(error=IndexUnavailableError("gone")), *verb, "--format", "json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "IndexUnavailableError"
