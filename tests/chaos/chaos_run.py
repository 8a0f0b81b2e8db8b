"""Run a history: do its actions, kill its victims, restart them, and wait until bucket and index agree."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import minio
import urllib3
from chaos.histories import Deed, Step, Victim, picture, size_of
from chaos.parts import sick_file

from deploy.agreement import Difference, Holdings, compare, read_bucket, read_index
from deploy.local import Stack

DOWN_S = 0.5  # a victim stays dead so long before it is started again
DEED_S = 90.0  # longest time for a deed while the S3 server is down
POLL_S = 1.0
AGREED_TWICE_S = 1.5  # agreement has to last: a late worker may still be about to write

Say = Callable[[str], None]


class ChaosRun:
    """A stack, and what its bucket ought to hold: the versions of its keys."""

    def __init__(self, stack: Stack, say: Say) -> None:
        self._stack = stack
        self._say = say
        self.versions: dict[str, int] = {}

    def live_through(self, steps: list[Step]) -> None:
        """Do all steps, one after the other. Victims are started again after a moment, as Docker would."""
        for step in steps:
            self._say(f"  {step}")
            if step.victim is not None:
                self._kill(step.victim)
            else:
                self._do(step)
            time.sleep(step.pause_s)

    def wait_for_agreement(self, timeout_s: float) -> float:
        """Wait until bucket and index agree and stay so; the seconds until then. Raises: AssertionError."""
        start = time.monotonic()
        last: list[Difference] | str = "nothing was compared"
        while time.monotonic() < start + timeout_s:
            fallen = self._stack.restart_ended()
            if fallen:
                self._say(f"  {', '.join(fallen)} had ended and was started again")
            last = self._differences()
            if last == []:
                agreed_s = time.monotonic() - start
                time.sleep(AGREED_TWICE_S)
                last = self._differences()
                if last == []:
                    return agreed_s
            time.sleep(POLL_S)
        raise AssertionError(f"no agreement within {timeout_s:.0f} s: {last}")

    def last_words(self) -> str:
        """The ends of all logs."""
        logs = sorted(self._stack.folder.glob("*.log")) + sorted(self._stack.folder.glob("watcher/*.log"))
        return "\n".join(f"--- {log.name}\n{_end_of(log)}" for log in logs)

    def _differences(self) -> list[Difference] | str:
        try:
            listing = self._listing()
            held = self._held()
        except Exception as error:  # noqa: BLE001  a server that was killed may refuse in any way for a while
            return f"{type(error).__name__}: {error}"
        if set(listing) != set(self.versions):
            return [Difference("bucket", key, "not as uploaded") for key in set(listing) ^ set(self.versions)]
        return compare(listing, held) + self._of_content(held)

    def _of_content(self, held: Holdings) -> list[Difference]:
        """Image rows whose size is not that of the bytes that were uploaded last."""
        return [
            Difference("stale", row["key"], f"of size {row['image_width']} × {row['image_height']}")
            for row in held.images
            if row["key"] in self.versions  # or it is orphaned, which was told already
            and (row["image_width"], row["image_height"]) != size_of(self.versions[row["key"]])
        ]

    def _listing(self) -> dict[str, str]:
        return read_bucket(self._client(), self._stack.bucket)

    def _held(self) -> Holdings:
        return read_index(self._stack.milvus.uri, self._stack.bucket)

    def _do(self, step: Step) -> None:
        """The deed, again until it succeeds: the S3 server may be dead at the moment."""
        deadline = time.monotonic() + DEED_S
        while True:
            try:
                self._once(step)
            except (minio.error.MinioException, urllib3.exceptions.HTTPError, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def _once(self, step: Step) -> None:
        client = self._client()
        if step.deed is Deed.DELETE:
            client.remove_object(self._stack.bucket, step.key)
            self.versions.pop(step.key, None)
            return
        data = picture(step.version)
        client.put_object(self._stack.bucket, step.key, io.BytesIO(data), len(data), content_type="image/png")
        self.versions[step.key] = step.version

    def _client(self) -> minio.Minio:
        settings = self._stack.s3.settings()
        assert settings.access_key is not None
        assert settings.secret_key is not None
        return minio.Minio(
            self._stack.s3.endpoint,
            settings.access_key.get_secret_value(),
            settings.secret_key.get_secret_value(),
            secure=False,
            http_client=urllib3.PoolManager(timeout=5.0, retries=False),
        )

    def _kill(self, victim: Victim) -> None:
        stack = self._stack
        if victim is Victim.DEVICE:
            sick_file(stack.folder).touch()
        elif victim is Victim.S3:
            stack.s3.kill()
            time.sleep(DOWN_S)
            stack.s3.start(same_address=True)
        elif victim is Victim.MILVUS:
            stack.milvus.kill()
            time.sleep(DOWN_S)
            stack.milvus.start(same_address=True)
        else:
            names = {Victim.WORKER: "worker-0", Victim.COORDINATOR: "watcher"}
            program = stack.programs[names.get(victim, str(victim))]
            program.kill()
            time.sleep(DOWN_S)
            program.start()


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-25:])
