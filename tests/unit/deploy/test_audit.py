"""The audit finds what is known, says where nothing is, and never fails for lack of a network."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from deploy import audit

CLEAN = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "not found"}
BAD = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["3"]}]}


def answers(**of_service: Any):
    return lambda service: of_service.get(service)


def test_a_known_vulnerability_fails(capsys) -> None:
    assert audit.main(answers(osv={"dependencies": [CLEAN, BAD, SKIPPED]})) == 1
    said = capsys.readouterr().out
    assert "osv: 2 of 3 libraries audited" in said
    assert "vulnerable: c 2: PYSEC-1, fixed in 3" in said


@pytest.mark.parametrize("osv", [None, {"dependencies": []}, {"dependencies": [SKIPPED]}])
def test_the_next_source_is_asked_where_one_has_no_data(osv, capsys) -> None:
    assert audit.main(answers(osv=osv, pypi={"dependencies": [CLEAN]})) == 0
    assert "pypi: 1 of 1 libraries audited" in capsys.readouterr().out


def test_without_any_data_nothing_fails_and_it_is_said(capsys) -> None:
    assert audit.main(answers()) == 0
    assert capsys.readouterr().out.startswith("not audited: ")


def test_what_is_ignored_with_a_reason_is_no_failure() -> None:
    ignored = audit.ignored_ids("# why\nCVE-1 only on Windows\n\n")
    assert audit.Audit.of({"dependencies": [BAD]}, ignored).found == ()


@pytest.mark.parametrize("error", [OSError("no uv"), subprocess.TimeoutExpired("uv", 1)])
def test_a_tool_that_does_not_run_is_no_data(error, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert audit.ask("osv") is None


@pytest.mark.parametrize("printed", ["", "Traceback", "[]", "{}"])
def test_an_answer_that_is_no_report_is_no_data(printed, monkeypatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, printed, "refused"))
    assert audit.ask("osv") is None
