"""No answer names a host, a path or a credential of the server: each route, in each state of what lies behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from fakes.http_servers import Answer, Asked, web_server
from fakes.machine import Machine
from fakes.serving import IMAGES, ORIGIN, Served, crowd, png_of
from starlette.testclient import TestClient

from searchanything.client.opening import connect
from searchanything.client.remote_names import image_id
from searchanything.core.errors import WeightsMissingError
from searchanything.core.serve_settings import ServeSettings
from searchanything.core.settings import Settings
from searchanything.serve.app import make_app
from searchanything.serve.desk import Desk
from searchanything.serve.keys import KeyRing
from searchanything.stores import s3_access

MARK = "ourveryown"
STATES = ("well", "NoSuchKey", "NoSuchBucket", "AccessDenied", "SlowDown", "changed", "no XML", "no image")


class Bucket:
    """An S3 server with one bucket, and what is the matter with it."""

    def __init__(self) -> None:
        self.state = "well"
        self.objects = {key: png_of(image) for key, image in IMAGES.items()}

    def __call__(self, asked: Asked) -> Answer:
        parts = urlsplit(asked.target)
        key = unquote(parts.path.removeprefix("/holiday/"))
        status = {"NoSuchKey": 404, "NoSuchBucket": 404, "AccessDenied": 403, "SlowDown": 503}.get(self.state)
        if status is not None:
            body = f"<Error><Code>{self.state}</Code><Message>see {MARK}.internal</Message></Error>"
            return status, {"Content-Type": "application/xml"}, body.encode()
        if self.state == "no XML":
            return 400, {"Content-Type": "text/html"}, f"<html>{MARK} says no".encode()
        if "location" in parts.query:
            return 200, {"Content-Type": "application/xml"}, b"<LocationConstraint/>"
        if "list-type" in parts.query:
            return 200, {"Content-Type": "application/xml"}, self._listing()
        data = b"none" if self.state == "no image" else self.objects.get(key, b"")
        headers = {"ETag": self._etag(data), "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        return 200, headers, data

    def _etag(self, data: bytes) -> str:
        return '"other"' if self.state == "changed" else f'"{md5(data).hexdigest()}"'  # noqa: S324

    def _listing(self) -> bytes:
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(self._etag(data))}</ETag><Size>{len(data)}</Size></Contents>"
            for key, data in self.objects.items()
        )
        return (
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>holiday</Name>'
            f"<IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        ).encode()


class Private:
    """A server whose bucket, index, folder and credentials all hold a mark."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, bucket: Bucket) -> None:
        home = folder / MARK
        home.mkdir()
        self.hook = f"http://localhost:{endpoint.rpartition(':')[2]}/hook"  # whoever added it knows it
        self.bucket, self.endpoint = bucket, endpoint
        machine = Machine()
        machine.install(monkeypatch)
        storage = {"endpoint": endpoint, "secure": False, "access_key": f"{MARK}AK", "secret_key": f"{MARK}SK"}
        chosen = Settings(
            _env_file=None, storage=storage, milvus={"uri": str(home / "index.db"), "token": f"{MARK}token"}
        )
        client = connect(settings=chosen, preset="pico")
        assert client.index("s3://holiday/").indexed == len(IMAGES)
        ring = KeyRing(home / "serve")
        token, _ = ring.add("shop", rights=("read", "refine", "standing"))
        serve = ServeSettings(preload=False, webhooks=(f"{self.hook}/",))
        desk = Desk(client, serve, folder=home / "serve", ring=ring)
        http = TestClient(make_app(desk), base_url=ORIGIN, raise_server_exceptions=False)
        self.served = Served(home, machine, client, desk, http, {"Authorization": f"Bearer {token}"})
        crowd(self.served, regions=300)

    def name(self, key: str) -> dict[str, Any]:
        return {"bucket": "holiday", "key": key}

    def asked(self) -> Iterator[tuple[str, str, Any]]:
        """Method, path and document of requests that reach each route."""
        two, red = self.name("a/two.png"), self.name("a/red.png")
        prompt = {"kind": "points", "foreground": [[60, 20]]}
        question = {"image": two, "prompt": prompt}
        yield from (("POST", f"/v1/{path}", question) for path in ("query", "sheet", "refine", "compare"))
        upload = self.ask("POST", "/v1/uploads", png_of(IMAGES["a/two.png"])).json()["upload"]
        uploaded = {"image": {"upload": upload}, "prompt": prompt}
        yield from (("POST", f"/v1/{path}", uploaded) for path in ("query", "compare"))
        yield "POST", "/v1/explain", {**uploaded, "expect": red}
        yield "POST", "/v1/query", {"text": "a dog"}
        yield "POST", "/v1/query", {**question, "filter": {"expression": 'meta["a" =='}}
        yield "POST", "/v1/query", {**question, "image": self.name("gone.png")}
        yield "POST", "/v1/refine", {**question, "right": [{**red, "region": 0}]}
        yield "POST", "/v1/refine", {**question, "probe": {"format": 1}}
        for expect in (red, self.name("b/green.png"), self.name("gone.png")):
            yield "POST", "/v1/explain", {**question, "expect": expect}
        yield "POST", "/v1/explain", {**question, "expect": red, "expect_box_xyxy": [8, 4, 44, 60]}
        yield "POST", "/v1/segment", {"image": two}
        yield "POST", "/v1/segment/sheet", {"image": two}
        yield "POST", "/v1/uploads", b"no image"
        yield "GET", "/v1/uploads/nothing/thumbnail", None
        image = image_id(next(row.image for row in self.served.client.images()[0] if row.image.key == "a/red.png"))
        yield from (("GET", f"/v1/images/{image}{more}", None) for more in ("", "/regions", "/thumbnail"))
        for path in ("images", "status", "server", "standing", "standing/matches", "no/such/route"):
            yield "GET", f"/v1/{path}", None
        yield from (("GET", path, None) for path in ("/healthz", "/readyz", "/metrics", "/", "/openapi.json", "/docs"))
        for name, webhook in (("fetched", None), ("sent", f"{self.hook}/{MARK}")):
            kept = {**question, "name": name, "max_false_match": 0.5, "webhook": webhook}
            yield "POST", "/v1/standing", kept
        yield "POST", "/v1/standing", {"name": "words", "text": "a dog"}
        for one in self.served.client.standing.queries():
            yield "GET", f"/v1/standing/{one.id}/thumbnail", None
            yield "POST", f"/v1/standing/{one.id}/test", None
        yield "GET", "/v1/standing", None
        yield "GET", "/v1/standing/matches", None

    def ask(self, method: str, path: str, document: Any) -> Any:
        body = {"content": document} if isinstance(document, bytes) else {"json": document}
        return self.served.http.request(method, path, headers=self.served.headers, **body)


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Private]:
    monkeypatch.setattr(s3_access, "BACKOFF_S", 0.001)
    monkeypatch.setattr("searchanything.stores.s3.BACKOFF_S", 0.001)
    bucket = Bucket()
    with web_server(bucket) as server:
        made = Private(tmp_path, monkeypatch, server.endpoint, bucket)
        yield made
        made.served.client.close()


def test_no_answer_names_what_is_the_servers_own(private: Private) -> None:
    faults, statuses = [], set[int]()
    for state in STATES:
        private.bucket.state = state
        private.served.desk._status.clear()
        for method, path, document in private.asked():
            answer = private.ask(method, path, document)
            statuses.add(answer.status_code)
            said = f"{answer.headers} {answer.text}"
            found = [one for one in (MARK, private.endpoint, "minio", "Traceback") if one in said]
            if found:
                place = max(0, said.find(found[0]) - 200)
                faults.append(
                    f"{state}: {method} {path} {json.dumps(document, default=str)}: {said[place : place + 400]}"
                )
    assert not faults, "\n".join(faults)
    assert {200, 201, 404, 422, 502, 503} <= statuses


def test_the_log_has_it_under_the_requests_number(private: Private, caplog: pytest.LogCaptureFixture) -> None:
    upload = private.ask("POST", "/v1/uploads", png_of(IMAGES["a/two.png"])).json()["upload"]
    prompt = {"kind": "points", "foreground": [[60, 20]]}
    private.bucket.state = "AccessDenied"
    answer = private.ask("POST", "/v1/compare", {"image": {"upload": upload}, "prompt": prompt})
    reasons = {one["reason"] for one in answer.json()["left_out"]}
    request = answer.headers["X-Request-ID"]
    assert reasons == {
        f"The image store refused a request: the log of the server has the cause under request {request}"
    }
    assert f"request {request}: StoreError: holiday/a/two.png: {private.endpoint} denied access" in caplog.text


def test_what_a_standing_query_fails_with_is_said_without_paths(
    private: Private, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    question = {"image": private.name("a/two.png"), "prompt": {"kind": "points", "foreground": [[60, 20]]}}
    for name, webhook in (("fetched", None), ("sent", f"{private.hook}/x")):
        kept = private.ask(
            "POST", "/v1/standing", {**question, "name": name, "max_false_match": 0.5, "webhook": webhook}
        )
        assert kept.status_code == 201, kept.text

    def missing(*_: object) -> None:
        raise WeightsMissingError(f"expected weights at /srv/{MARK}")

    monkeypatch.setattr("searchanything.client.standing_features.StandingFeatures.code", missing)
    private.served.client.standing.deliver()
    fetched, listed = (private.ask("GET", f"/v1/standing{more}", None) for more in ("/matches", ""))
    assert "under request" in fetched.json()["failed"]["fetched"]
    assert "the log has the cause" in next(one["error"] for one in listed.json()["queries"] if one["name"] == "sent")
    assert MARK not in fetched.text + listed.text.replace(f"{private.hook}/", "")
    assert f"WeightsMissingError: expected weights at /srv/{MARK}" in caplog.text
