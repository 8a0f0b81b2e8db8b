"""Work that threads do at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence


def side_by_side(work: Sequence[Callable[[], object]], *, meanwhile: Callable[[], object]) -> list[BaseException]:
    """Do all work, a thread each, and `meanwhile` again and again until it is done; what was raised."""
    done, raised = threading.Event(), []

    def guarded(one: Callable[[], object]) -> None:
        try:
            one()
        except BaseException as error:  # noqa: BLE001  whoever called looks at it
            raised.append(error)

    def repeated() -> None:
        while not done.is_set() and not raised:
            guarded(meanwhile)

    repeating = threading.Thread(target=repeated)
    threads = [threading.Thread(target=guarded, args=(one,)) for one in work]
    for thread in (repeating, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    repeating.join()
    return raised
