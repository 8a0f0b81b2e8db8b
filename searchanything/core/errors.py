"""Every error this package raises on purpose, in one tree.

    SearchAnythingError
    ├── UsageError                 the caller asked for something that cannot be (exit code 2)
    │   ├── PromptError            a prompt outside the image, of the wrong shape, contradictory
    │   ├── FilterError            a filter that cannot be expressed or understood
    │   ├── SettingsError          a setting that is missing or contradicts another
    │   ├── PresetError            no preset chosen, or one that contradicts the index
    │   ├── EventError             a notification of no known format
    │   └── UniformFeaturesError   features that are all the same, of which no hash can be learnt
    ├── ImageError                 an object that cannot be decoded as an image
    ├── AnnotationsError           a file of annotations that does not hold what its format says
    ├── ModelError                 weights that are damaged, foreign or do not fit together
    │   └── WeightsMissingError    weights that have not been fetched
    ├── ModelLoadError             weights that turn out to be damaged in the midst of other work
    ├── StoreError                 the image store refused
    │   ├── ObjectNotFoundError    no such bucket, folder or object
    │   ├── ObjectChangedError     the object changed between listing and reading
    │   ├── EventsNotOfferedError  the image store does not tell of changes
    │   └── StoreUnavailableError  the image store cannot be reached
    ├── RegionIndexError           the index refused
    │   ├── IndexNotFoundError     nothing has been indexed under this URI
    │   ├── IndexMismatchError     schema, bits or fingerprint do not fit
    │   └── IndexUnavailableError  the index cannot be reached, or answered too late
    ├── ServiceError               a part of the ingestion service did not come up, or ended
    └── ServeError                 the server of `searchanything serve` does not take a request
        ├── AccessError            no key, one that is not valid, or one without this right
        ├── TooLargeError          more bytes or pixels than the server takes
        ├── BusyError              more requests at once than the server takes, or one that took too long
        ├── NotOfferedError        something that this server, or its index, cannot do
        └── ServerUnreachableError nobody answers at the address, or something else does

Foreign errors (minio, pymilvus, grpc, ultralytics, Pillow) are mapped at the adapter that imports the library.
"""

from __future__ import annotations

from pathlib import Path


class SearchAnythingError(Exception):
    """Base of all errors of this package."""


class UsageError(SearchAnythingError, ValueError):
    """The request itself is wrong; repeating it cannot help."""


class PromptError(UsageError):
    """A prompt that cannot be applied to this image."""


class FilterError(UsageError):
    """A search filter that cannot be expressed or understood."""


class SettingsError(UsageError):
    """A setting that is missing, malformed or contradicts another."""


class PresetError(UsageError):
    """No preset was chosen, it is unknown, or it contradicts the index."""


class EventError(UsageError):
    """A notification of a bucket that is of no known format."""


class UniformFeaturesError(UsageError):
    """Features that are all the same: no hash can be learnt from them."""


class ImageError(SearchAnythingError):
    """An object that claims to be an image and cannot be decoded.

    `name` is the object's key or path; `reason` one line without the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class AnnotationsError(SearchAnythingError):
    """A file of annotations that cannot be read, or does not hold what its format says.

    `path` is the file, `field` where in it (`annotations[3].bbox`), `reason` what came and what was expected.
    """

    def __init__(self, path: Path, field: str, reason: str) -> None:
        super().__init__(f"{path}: {field}: {reason}")
        self.path = path
        self.field = field
        self.reason = reason

    def __reduce__(self) -> tuple[type[AnnotationsError], tuple[Path, str, str]]:
        return type(self), (self.path, self.field, self.reason)


class ModelError(SearchAnythingError):
    """Weights that are damaged, foreign, or do not fit together."""


class WeightsMissingError(ModelError):
    """Weights that have not been fetched to this machine."""


class ModelLoadError(SearchAnythingError):
    """Weights that turn out to be damaged or foreign when work needs them: it ends the work, not an image of it."""


class StoreError(SearchAnythingError):
    """The image store refused a request."""


class ObjectNotFoundError(StoreError):
    """No such bucket, folder or object."""


class ObjectChangedError(StoreError):
    """The object is no longer the one that was listed."""


class EventsNotOfferedError(StoreError):
    """The image store does not tell of changes; only a sync finds them."""


class StoreUnavailableError(StoreError):
    """The image store cannot be reached."""


class RegionIndexError(SearchAnythingError):
    """The region index refused a request."""


class IndexNotFoundError(RegionIndexError):
    """Nothing has been indexed under this URI."""


class IndexMismatchError(RegionIndexError):
    """Schema, code length or fingerprint do not fit this index."""


class IndexUnavailableError(RegionIndexError):
    """The region index cannot be reached, or answered too late."""


class ServiceError(SearchAnythingError):
    """A part of the ingestion service (Prefect, the coordinator) did not come up, or ended with an error."""


class ServeError(SearchAnythingError):
    """A server does not take a request, though the request may be right."""


class AccessError(ServeError):
    """No key, one that is not valid (any more), or one that does not give this right.

    `known` tells whether the key was valid.
    """

    def __init__(self, message: str, *, known: bool = False) -> None:
        super().__init__(message)
        self.known = known


class TooLargeError(ServeError):
    """More bytes or pixels than the server takes."""


class BusyError(ServeError):
    """More requests at once than the server takes, or one that took too long; ask again after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotOfferedError(ServeError):
    """Something that this server, or its index, cannot do."""


class ServerUnreachableError(ServeError):
    """Nobody answers at the address, or what answers is not `searchanything serve`."""
