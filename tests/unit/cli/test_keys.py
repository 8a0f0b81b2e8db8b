"""`keys add|list|revoke`: a key is shown once, and what is listed cannot be shown."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from fakes.serving import Served

from searchanything.cli.app import run
from searchanything.core.errors import AccessError
from searchanything.core.extras import install_command
from searchanything.serve.keys import KeyRing


def call(capsys: pytest.CaptureFixture[str], uri: Path, *arguments: str) -> tuple[int, Any]:
    code = run(["keys", *arguments, "--uri", str(uri), "--format", "json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_key_is_made_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = tmp_path / "index.db"
    code, made = call(capsys, uri, "add", "shop", "--scope", "s3://catalogue/shoes/", "--right", "read")
    assert (code, made["rights"]) == (0, ["read"])
    assert made["scope"] == [{"bucket": "catalogue", "key_prefix": "shoes/"}]
    ring = KeyRing(tmp_path / ".index.db.serve")
    assert ring.find(made["key"]).places == (("catalogue", "shoes/"),)
    code, listed = call(capsys, uri, "list")
    assert [one["name"] for one in listed["keys"]] == ["shop"]
    assert made["key"] not in json.dumps(listed)
    assert call(capsys, uri, "revoke", "shop")[0] == 0
    with pytest.raises(AccessError):
        ring.find(made["key"])


def test_for_people_the_key_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--uri", str(tmp_path / "index.db")]
    assert run(["keys", "list", *arguments]) == 0
    assert capsys.readouterr().out == "no keys: searchanything keys add NAME\n"
    assert run(["keys", "add", "shop", *arguments]) == 0
    key = capsys.readouterr().out.strip()
    assert KeyRing(tmp_path / ".index.db.serve").find(key).places == ()
    assert run(["keys", "list", *arguments]) == 0
    assert "everything" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["add", " "], ["add", "a", "--right", "write"], ["add", "a", "--scope", "ftp://x"], ["revoke", "a"]]
)
def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, said = call(capsys, tmp_path / "index.db", *arguments)
    assert (code, said["error"]["type"]) == (2, "UsageError")


def test_a_key_of_the_environment_is_taken_once_and_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, arguments = KeyRing(tmp_path / ".index.db.serve"), ("add", "platform", "--value-of", "SERVE_KEY")
    first, second = "sa_0123abcd_" + "k" * 40, "q" * 40
    for token in (first, first, second):
        monkeypatch.setenv("SERVE_KEY", token)
        code, said = call(capsys, tmp_path / "index.db", *arguments)
        assert code == 0
        assert token not in json.dumps(said)
    assert [(key.id == "0123abcd", key.revoked_at_ms is None) for key in ring.all()] == [(True, False), (False, True)]
    assert ring.find(second).name == "platform"
    with pytest.raises(AccessError):
        ring.find(first)
    assert call(capsys, tmp_path / "index.db", *arguments, "--right", "read")[0] == 0  # the same key may do less now
    assert ring.find(second).rights == ("read",)
    assert len(ring.all()) == 2
    monkeypatch.setenv("SERVE_KEY", first)
    code, said = call(capsys, tmp_path / "index.db", *arguments)
    assert (code, "stays so" in said["error"]["message"]) == (2, True)
    assert ring.find(second)


@pytest.mark.parametrize("value", [None, "", "short", "k" * 31, "k" * 40 + " x", "é" * 40])
def test_a_key_of_the_environment_that_is_none(
    value: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("SERVE_KEY", raising=False)
    else:
        monkeypatch.setenv("SERVE_KEY", value)
    code, said = call(capsys, tmp_path / "index.db", "add", "platform", "--value-of", "SERVE_KEY")
    assert (code, said["error"]["type"]) == (2, "UsageError")
    assert not value or value not in said["error"]["message"]


def test_a_missing_extra_is_answered_with_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_uvicorn(name: str, *rest: Any) -> Any:
        if name == "searchanything.serve.run":
            raise ImportError("No module named 'uvicorn'", name="uvicorn")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_uvicorn)
    assert run(["serve", "--uri", str(tmp_path / "index.db")]) == 2
    assert install_command("serve") in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Any]:
    """A folder whose images are indexed, and how the command line reaches that index."""
    served = Served.make(tmp_path, monkeypatch)

    def call_it(*arguments: str) -> int:
        return run(
            ["keys", *arguments, "--uri", str(tmp_path / "index.db"), "--format", "json"],
            connect=lambda *_: served.client,
        )

    return served.folder, call_it


@pytest.mark.parametrize("written", ["a", "a/", "a/.", "../images/a"])
def test_a_part_of_an_indexed_folder_is_its_prefix(
    folder: tuple[Path, Any], capsys: pytest.CaptureFixture[str], written: str
) -> None:
    bucket, call_it = folder
    assert call_it("add", "part", "--scope", f"{bucket}/{written}", "--scope", str(bucket)) == 0
    said = capsys.readouterr()
    places = [{"bucket": str(bucket), "key_prefix": "a/"}, {"bucket": str(bucket), "key_prefix": ""}]
    assert json.loads(said.out)["scope"] == places
    assert "warning" not in said.err
    assert call_it("list") == 0
    assert "warning" not in capsys.readouterr().err


def test_a_scope_that_matches_nothing_is_warned_of(
    folder: tuple[Path, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    bucket, call_it = folder
    scopes = (f"{bucket}/none", "s3://catalogue/shoes/", str(bucket.parent))
    assert call_it("add", "ka", *(part for one in scopes for part in ("--scope", one))) == 0
    said = capsys.readouterr()
    kept = [(one["bucket"], one["key_prefix"]) for one in json.loads(said.out)["scope"]]
    assert kept == [(str(bucket), "none/"), ("catalogue", "shoes/"), (str(bucket.parent), "")]
    assert said.err.count("no indexed image is in the scope") == 3
    assert call_it("list") == 0
    said = capsys.readouterr()
    assert said.err.count("no indexed image is in the scope") == 3
    assert "no indexed image is in the scope s3://catalogue/shoes/;" in said.err
    call_it("revoke", "ka")
    capsys.readouterr()
    call_it("list")
    assert "warning" not in capsys.readouterr().err


def test_without_an_index_a_scope_is_kept_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri, part = tmp_path / "index.db", tmp_path / "folder" / "a"
    part.mkdir(parents=True)
    assert run(["keys", "add", "ka", "--scope", str(part), "--uri", str(uri), "--format", "json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["scope"] == [{"bucket": str(part), "key_prefix": ""}]
    assert "cannot be read" in said.err
    assert not uri.exists()
    assert run(["keys", "add", "kb", "--scope", "s3://catalogue/shoes/", "--uri", str(uri)]) == 0
    capsys.readouterr()
    assert run(["keys", "list", "--uri", str(uri)]) == 0
    listed = capsys.readouterr().out
    assert f"  {part}/  since " in listed
    assert "  s3://catalogue/shoes/  since " in listed
