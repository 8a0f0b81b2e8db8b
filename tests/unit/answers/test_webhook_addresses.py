"""Which addresses a standing query may send to, and how much of one is shown."""

from __future__ import annotations

import pytest

from searchanything.answers.standing_answers import checked_webhook, name_of_image, shown_webhook
from searchanything.core.errors import UsageError


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://host", "http://host/"),
        ("http://host/", "http://host/"),
        ("https://host/secret", "https://host/…"),
        ("https://host?secret", "https://host/…"),
        ("http://host:65535/", "http://host:65535/"),
        ("http://[::1]:8080/hook", "http://[::1]:8080/…"),
    ],
)
def test_addresses_that_can_be_sent_to(address: str, shown: str) -> None:
    assert checked_webhook(address) == address
    assert shown_webhook(address) == shown


@pytest.mark.parametrize(
    "address",
    [
        "", "host/path", "//host/", "ftp://host/", "http://", "http:///path", "http://user:word@host/", "http://[::1/",
        "http://host:0/", "http://host:65536/", "http://host:x/", "http://host/ path", "http://host/#part",
        "http://host/é", "http://host/\t", "http://host\\@other/",
    ],
)  # fmt: skip
def test_addresses_that_cannot(address: str) -> None:
    with pytest.raises(UsageError, match=r"^webhook: expected http\(s\)://host/path, in ASCII letters"):
        checked_webhook(address)


def test_none_is_no_address_and_bytes_have_no_name() -> None:
    assert checked_webhook(None) is None
    assert name_of_image({"source": "bytes"}) is None
    assert name_of_image({"source": "object", "bucket": "b", "key": "a/k.png"}) == "s3://b/a/k.png"
    assert name_of_image({"source": "file", "path": "a.png"}) == "a.png"
