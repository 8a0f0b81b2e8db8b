"""Fixtures of the tests of stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from searchanything.stores import s3, s3_access


@pytest.fixture(scope="module")
def quick_retries() -> Iterator[None]:
    """S3 is asked again at once: how long it waits is a test of its own."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for module in (s3, s3_access):
            monkeypatch.setattr(module, "BACKOFF_S", 0.001)
        yield
