"""Property tests try the same examples in every run and are not timed: the machines that run them are shared.

To look for new examples, run with `derandomize=False` here and pytest's `--hypothesis-seed`.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
