"""S3 keys that are exchanged in the midst of a run are the whole run's matter: no image fails for them."""

from __future__ import annotations

import pytest
from fakes.http_servers import Answer, Asked, WebServer, web_server
from pydantic import SecretStr

from searchanything.core.errors import StoreError, StoreUnavailableError
from searchanything.core.settings import StorageSettings
from searchanything.stores.s3 import S3Store

pytestmark = pytest.mark.usefixtures("quick_retries")

XML = {"Content-Type": "application/xml"}
EMPTY: Answer = (200, XML, b"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated></ListBucketResult>")


def refused(code: str, status: int = 403) -> Answer:
    return status, XML, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


def store_at(server: WebServer) -> S3Store:
    keys = {"access_key": SecretStr("AK"), "secret_key": SecretStr("SK")}
    return S3Store(
        StorageSettings.model_validate({"endpoint": server.endpoint, "secure": False, "region": "r", **keys}), "bucket"
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("InvalidAccessKeyId", 403),
        ("SignatureDoesNotMatch", 403),
        ("InvalidToken", 400),
        ("ExpiredToken", 400),
        ("RequestTimeTooSkewed", 403),
    ],
)
def test_wrong_keys_make_the_store_unavailable(code: str, status: int) -> None:
    with web_server(lambda _: refused(code, status)) as server:
        store = store_at(server)
        for ask in (lambda: list(store.list()), lambda: store.read("a.jpg"), lambda: store.stat("a.jpg")):
            with pytest.raises(StoreUnavailableError, match=rf"denied access \({code}\).*, then repeat"):
                ask()


@pytest.mark.parametrize("code", ["AccessDenied", "SignatureDoesNotMatch"])
@pytest.mark.parametrize("listing", [EMPTY, refused("AccessDenied")], ids=["listed", "not listed"])
def test_an_object_that_alone_is_refused_is_its_own_matter(code: str, listing: Answer) -> None:
    with web_server(lambda asked: listing if "prefix=" in asked.target else refused(code)) as server:
        for ask in (store_at(server).read, store_at(server).stat):
            with pytest.raises(StoreError, match="denied access") as caught:
                ask("a.jpg")
            assert type(caught.value) is StoreError


def test_a_server_that_goes_away_meanwhile_has_refused_nothing() -> None:
    def answer(asked: Asked) -> Answer:
        return refused("SlowDown", 503) if "prefix=" in asked.target else refused("AccessDenied")

    with web_server(answer) as server, pytest.raises(StoreUnavailableError):
        store_at(server).read("a.jpg")
