"""Work that threads do at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence


def side_by_side(work: Sequence[Callable[[], object]], *, meanwhile: Callable[[], object]) -> list[BaseException]:
    """Do all work, a thread each, and `meanwhile` again and again until it is done; what was raised.

    Raises: TimeoutError if it is not done within two minutes.
    """
    done, raised = threading.Event(), []

    def guarded(one: Callable[[], object]) -> None:
        try:
            one()
        except BaseException as error:  # noqa: BLE001  whoever called looks at it
            raised.append(error)

    def repeated() -> None:
        while not done.is_set() and not raised:
            guarded(meanwhile)

    repeating = threading.Thread(target=repeated, daemon=True)
    threads = [threading.Thread(target=guarded, args=(one,), daemon=True) for one in work]
    for thread in (repeating, *threads):
        thread.start()
    deadline = time.monotonic() + 120
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    done.set()
    repeating.join(max(1, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in (repeating, *threads)):
        raise TimeoutError("threads wait for each other")
    return raised
