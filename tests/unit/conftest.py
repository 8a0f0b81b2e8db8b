"""Property tests try the same examples in every run and are not timed: the machines that run them are shared.

To look for new examples, run with `derandomize=False` here and pytest's `--hypothesis-seed`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from searchanything.client import made_together

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture(autouse=True, scope="session")
def nobody_else() -> Iterator[None]:
    """No other process makes an index at the same time: whoever makes one does not wait to see it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(made_together, "SETTLING_S", 0.0)
        yield
