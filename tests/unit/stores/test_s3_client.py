"""S3 servers that differ from AWS and MinIO: names of types, regions that are not said, pages of a listing."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from fakes.http_servers import Answer, Asked, web_server

from searchanything.core.errors import ObjectNotFoundError, StoreError, StoreUnavailableError
from searchanything.core.settings import StorageSettings
from searchanything.stores.s3 import S3Store

pytestmark = pytest.mark.usefixtures("quick_retries")
XML = {"Content-Type": "application/xml"}


def store(endpoint: str, **others: object) -> S3Store:
    keys = {"endpoint": endpoint, "secure": False, "access_key": "AK", "secret_key": "SK"}
    return S3Store(StorageSettings.model_validate({**keys, **others}), "bucket")


def error(code: str, more: str = "") -> bytes:
    return f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>m</Message>{more}</Error>".encode()


def page(*keys: str, token: str | None = None, truncated: bool = False) -> bytes:
    found = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>e</ETag><Size>1</Size>"
        f"<Surprise/></Contents>"
        for key in keys
    )
    following = "" if token is None else f"<NextContinuationToken>{token}</NextContinuationToken>"
    truth = str(truncated).lower()
    text = (
        f"<ListBucketResult><Name>bucket</Name><IsTruncated>{truth}</IsTruncated>{following}{found}</ListBucketResult>"
    )
    return text.encode()


def query(asked: Asked) -> dict[str, list[str]]:
    return parse_qs(urlsplit(asked.target).query, keep_blank_values=True)


def region(asked: Asked) -> str:
    """The one that a request is signed for."""
    return asked.headers["authorization"].partition("Credential=")[2].split("/")[2]


class TestTypes:
    """rclone's server and others name errors `text/xml`."""

    @pytest.mark.parametrize("kind", ["text/xml", "text/xml; charset=utf-8", "Text/XML", "application/xml"])
    def test_an_error_is_one_by_either_name_of_xml(self, kind: str) -> None:
        with web_server(lambda _: (404, {"Content-Type": kind}, error("NoSuchBucket"))) as server:
            images = store(server.endpoint, region="r")
            for ask in (lambda: list(images.list()), lambda: images.read("a.jpg")):
                with pytest.raises(ObjectNotFoundError, match="no such bucket"):
                    ask()

    def test_an_error_that_comes_with_the_status_of_a_success(self) -> None:
        with (
            web_server(lambda _: (200, XML, error("InternalError"))) as server,
            pytest.raises(StoreUnavailableError, match=r"overloaded or broken \(InternalError\)"),
        ):
            list(store(server.endpoint, region="r").list())

    def test_an_object_may_look_like_an_error(self) -> None:
        with web_server(lambda _: (200, XML, error("InternalError"))) as server:
            assert store(server.endpoint, region="r").read("a.xml")[1] == error("InternalError")


class TestRegions:
    @pytest.mark.parametrize(
        ("status", "answer", "expected"),
        [
            (403, error("AccessDenied"), "us-east-1"),
            (501, error("NotImplemented"), "us-east-1"),
            (404, error("NoSuchKey"), "us-east-1"),
            (400, error("AuthorizationHeaderMalformed", "<Region>garage</Region>"), "garage"),
            (200, b"<LocationConstraint>eu-3</LocationConstraint>", "eu-3"),
            (200, b"<LocationConstraint>\n  \n</LocationConstraint>", "us-east-1"),
            (200, b"<LocationConstraint/>", "us-east-1"),
        ],
    )
    def test_a_server_that_does_not_say_where_a_bucket_is(self, status: int, answer: bytes, expected: str) -> None:
        def answered(asked: Asked) -> Answer:
            return (status, XML, answer) if "location" in query(asked) else (200, XML, page("a.jpg"))

        with web_server(answered) as server:
            images = store(server.endpoint)
            assert [len(list(images.list())) for _ in range(2)] == [1, 1]
        assert [region(asked) for asked in server.asked] == ["us-east-1", expected, expected]  # it is asked once

    @pytest.mark.parametrize("header", [{}, {"x-amz-bucket-region": "eu-9"}])
    def test_a_bucket_of_another_region_whose_location_is_not_said(self, header: dict[str, str]) -> None:
        """As of MinIO's or Garage's with rights for the objects alone: the first request that is refused names it."""
        wrong = error("AuthorizationHeaderMalformed", "<Region>eu-9</Region>")

        def answered(asked: Asked) -> Answer:
            if "location" in query(asked):
                return 403, XML, error("AccessDenied")
            return (200, XML, page("a.jpg")) if region(asked) == "eu-9" else (400, {**XML, **header}, wrong)

        with web_server(answered) as server:
            images = store(server.endpoint)
            if header:  # a HEAD has no body that could name it; minio repeats it by itself
                assert images.stat("a.jpg") is not None
            for _ in range(2):
                assert len(list(images.list())) == 1
                assert images.stat("a.jpg") is not None
        asked_for = [region(asked) for asked in server.asked]
        assert asked_for == (["us-east-1"] * 3 + ["eu-9"] * 5 if header else ["us-east-1"] * 2 + ["eu-9"] * 4)

    def test_a_location_that_is_refused_with_the_region_in_a_header(self) -> None:
        def answered(asked: Asked) -> Answer:
            is_good = region(asked) == "eu-9"
            return (200, XML, b"") if is_good else (403, {**XML, "x-amz-bucket-region": "eu-9"}, error("AccessDenied"))

        with web_server(answered) as server:
            images = store(server.endpoint)
            assert images.stat("a.jpg") is not None
            assert "eu-9" in images.link("a.jpg", age_s=5)

    def test_a_region_that_is_refused_again_is_asked_for_no_more(self) -> None:
        wrong = error("AuthorizationHeaderMalformed", "<Region>eu-9</Region>")
        for settings in ({}, {"region": "eu-1"}):
            with (
                web_server(lambda _: (400, XML, wrong)) as server,
                pytest.raises(StoreError, match="set SEARCHANYTHING_STORAGE__REGION"),
            ):
                list(store(server.endpoint, **settings).list())
            assert len(server.asked) == (1 if settings else 2)

    def test_wrong_keys_are_no_question_of_regions(self) -> None:
        with (
            web_server(lambda _: (403, XML, error("InvalidAccessKeyId"))) as server,
            pytest.raises(StoreUnavailableError, match="InvalidAccessKeyId"),
        ):
            list(store(server.endpoint).list())
        assert len(server.asked) == 1


class TestPages:
    def test_a_page_may_be_short_or_empty(self) -> None:
        pages = {
            "": page("a.jpg", token="1/+=", truncated=True),
            "1/+=": page(token="2", truncated=True),
            "2": page("b.jpg", "c.jpg"),
        }

        def answered(asked: Asked) -> Answer:
            assert "start-after" not in query(asked)
            return 200, XML, pages[query(asked).get("continuation-token", [""])[0]]

        with web_server(answered) as server:
            listed = [one.ref.key for one in store(server.endpoint, region="r").list()]
        assert listed == ["a.jpg", "b.jpg", "c.jpg"]

    @pytest.mark.parametrize(
        "same",
        [
            lambda: page("a.jpg", "b.jpg", truncated=True),  # a server of the first version, which knows no tokens
            lambda: page("a.jpg", token="1", truncated=True),
            lambda: page(token="1", truncated=True),
            lambda: page(truncated=True),
        ],
    )
    def test_a_listing_without_an_end_is_an_error(self, same: Callable[[], bytes]) -> None:
        with (
            web_server(lambda _: (200, XML, same())) as server,
            pytest.raises(StoreError, match="the same page of its listing again and again"),
        ):
            list(store(server.endpoint, region="r").list())
        assert len(server.asked) < 4


class TestAddresses:
    """A server that sends on, such as one that speaks TLS alone, or AWS to a young bucket's region."""

    @pytest.mark.parametrize(
        ("status", "headers", "expected"),
        [
            (301, {"Location": "https://s3.example.org/bucket"}, "sends on to https://s3.example.org; set SEARCH"),
            (
                307,
                {"Location": "http://b.s3.example.org:80/", "x-amz-bucket-region": "eu-9"},
                r"example\.org:80 \(region eu-9\)",
            ),
            (302, {"Location": "/login"}, r"(127\.0\.0\.1:\d+) sends on to http://\1;"),
        ],
    )
    def test_the_address_that_is_sent_on_to_is_named(self, status: int, headers: dict[str, str], expected: str) -> None:
        with web_server(lambda _: (status, headers, b"<html>")) as server:
            images = store(server.endpoint, region="r")
            for ask in (lambda: list(images.list()), lambda: images.read("a.jpg"), lambda: images.stat("a.jpg")):
                with pytest.raises(StoreUnavailableError, match=expected):
                    ask()

    def test_another_region_is_named_without_an_address(self) -> None:
        moved = error("PermanentRedirect"), {**XML, "x-amz-bucket-region": "eu-9"}
        with (
            web_server(lambda _: (301, moved[1], moved[0])) as server,
            pytest.raises(StoreError, match="set SEARCHANYTHING_STORAGE__REGION"),
        ):
            list(store(server.endpoint, region="r").list())
