"""What to do about each error: a column of `docs/errors.md`. A class without an entry stops `docs/generate.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CURES: Final[Mapping[str, str]] = {
    "SearchAnythingError": "Catch it to catch all errors below.",
    "UsageError": "Change the request; the message says what was expected and what came. Repeating it does not help.",
    "PromptError": "Give coordinates inside the image, in pixels of the EXIF-corrected image (`searchanything "
    "segment IMAGE` prints its size), and the prompt's own form: [Prompts](prompts.md).",
    "FilterError": "Write the filter as the message says; see [Filters](filters.md).",
    "WordsMissingError": "Add them: `searchanything index SOURCE --add-words` ([by words "
    "alone](search.md#by-words-alone)).",
    "SettingsError": "Set or correct the variable that the message names: [Settings](settings.md). `searchanything "
    "doctor` checks all settings.",
    "PresetError": "For a new index, name a preset (`--preset small`). For an existing index leave it out: the "
    "index remembers its own.",
    "EventError": "Send notifications in the format of S3 or of SeaweedFS's filer: [the service](service.md).",
    "UniformFeaturesError": "Give features of different regions, or index with `--hash untrained`.",
    "NotOfferedHereError": "Run it where the index is: `searchanything.connect(URI)` with the index's own address.",
    "ImageError": "The message says which of the usual causes it is. If the upload was cut off, upload it again. If "
    "it is not an image, despite its name, remove or `--exclude` it. If it is larger than the limits against "
    "decompression bombs and you trust it, raise `ingest.max_pixels` or `storage.max_object_bytes`. In a run it "
    "counts as one failure: the other images are indexed.",
    "AnnotationsError": "Correct the annotations at the place that the message names: [Evaluation](evaluation.md).",
    "ModelError": "Delete the file that the message names and fetch it again: `searchanything models fetch PRESET`.",
    "WeightsMissingError": "Fetch them: `searchanything models fetch PRESET`. `searchanything models list` says "
    "what is on this machine.",
    "ModelLoadError": "As for `ModelError`, then run the same again: what was indexed stays indexed.",
    "DeviceError": "Run the same again: what was indexed stays indexed, and nothing was counted against an image. "
    "If it happens again, check the device (`nvidia-smi`, the system's log), or set "
    "`SEARCHANYTHING_MODELS__DEVICE=cpu`. `watch` replaces the worker automatically.",
    "StoreError": "Read the store's own text in the message. Often a permission is missing. `searchanything doctor "
    "SOURCE` tries a listing.",
    "ObjectNotFoundError": "Check bucket, prefix and key, or the path; keys are case-sensitive.",
    "UnusableKeyError": "Rename the object: its key is not UTF-8, longer than 4096 bytes, or holds a null "
    "character. The other images are indexed.",
    "ObjectChangedError": "Ask again: the object was replaced while it was read. A run of `index` does so "
    "automatically.",
    "ObjectNotSentError": "Look for the reason in the server's log, or upload the object again. If it was not sent for "
    "more than an hour: `searchanything failed retry` after that.",
    "EventsNotOfferedError": "If the server can send to a webhook, use that. If not, syncs find what changes.",
    "StoreUnavailableError": "Check `SEARCHANYTHING_STORAGE__ENDPOINT`, and that the server runs: `searchanything "
    "doctor`. For a bucket, check that its keys are still good; for a folder, that its disk is mounted.",
    "RegionIndexError": "Read the server's own text in the message; `searchanything doctor` checks the index.",
    "IndexNotFoundError": "Index something: `searchanything index SOURCE`. Or name the right index: `--uri`.",
    "IndexDamagedError": "Restore the index from a backup. Without one, move its file away and run `searchanything "
    "index SOURCE`: it is rebuilt from the images.",
    "IndexReadOnlyError": "The message has the system's reason. Make the file and its folder writable for this user "
    "(`chmod u+w`, a mount that can be written), or copy the index elsewhere and name the copy: `--uri`. Queries "
    "and `status` need not write.",
    "IndexFullError": "Make room on the disk that the message names, then run the same again: what was indexed "
    "stays indexed, and is not computed again.",
    "IndexMismatchError": "Do what the message says. If another version of searchanything made the index, see "
    "[Backups and versions](backups.md). If other weights made it, fetch those. A new index elsewhere is always "
    "possible.",
    "ProbeMismatchError": "Mark hits of this index instead. A saved probe only fits indexes of the same models.",
    "IndexUnavailableError": "Check `--uri`, and that the server runs: `searchanything doctor`. Then ask again, or "
    "run the same command again. What was read or written before is right.",
    "WebhookError": "Check that the webhook answers. What it did not take is sent again without your help "
    "(`searchanything standing list` says when).",
    "BackupError": "Take another backup, or index the images again, which needs no backup.",
    "LibraryError": "Run the commands that the message names; `searchanything doctor` loads all libraries one by one.",
    "ServiceError": "Read the log that the message names, then start `searchanything watch` again. Nothing is lost.",
    "ServeError": "Read the message: it says whether to ask again later, or to ask another server.",
    "AccessError": "Give a valid key (`searchanything keys add NAME` on the server makes one), with the right and "
    "the places that the request needs: [the server](serve.md#keys).",
    "TooLargeError": "Send a smaller image, or raise `serve.upload_bytes` or `serve.upload_pixels` on the server.",
    "BodyTimeoutError": "Send the body without pauses, or raise `serve.body_timeout_s` on the server.",
    "BusyError": "Ask again after the seconds that `Retry-After` names; see `serve.model_requests` and "
    "`serve.waiting_requests`.",
    "AnswerTimeoutError": "Ask for less (a smaller image, `limit`, a filter), or raise `serve.timeout_s` on the "
    "server. The work may go on, so the light client does not repeat the question.",
    "NotOfferedError": "`GET /v1/status` says what this server and its index offer.",
    "ServerUnreachableError": "Check the address, and that `searchanything serve` runs there (`GET /healthz`).",
}
