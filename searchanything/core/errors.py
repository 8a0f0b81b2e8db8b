"""Every error this package raises on purpose, in one tree.

    SearchAnythingError
    ├── UsageError                 the caller asked for something that cannot be (exit code 2)
    │   ├── PromptError            a prompt outside the image, of the wrong shape, contradictory
    │   ├── FilterError            a filter that cannot be expressed or understood
    │   ├── WordsMissingError      a search by words alone of an index that has no words codes
    │   ├── SettingsError          a setting that is missing or contradicts another
    │   ├── PresetError            no preset chosen, or one that contradicts the index
    │   ├── EventError             a notification in an unknown format
    │   ├── UniformFeaturesError   features that are all the same, of which no hash can be learnt
    │   └── NotOfferedHereError    a method of `Client` that a server's client does not have
    ├── ImageError                 an object that cannot be decoded as an image
    ├── AnnotationsError           an annotation file that is not in its format
    ├── ModelError                 weights that are damaged, foreign or do not fit together
    │   └── WeightsMissingError    weights that have not been fetched
    ├── ModelLoadError             weights that turn out to be damaged in the midst of other work
    ├── DeviceError                the device or its driver is at fault, not an image: a known one fails as well
    ├── StoreError                 the image store refused
    │   ├── ObjectNotFoundError    no such bucket, folder or object
    │   ├── UnusableKeyError       a key that no index can keep
    │   ├── ObjectChangedError     the object changed between listing and reading
    │   ├── ObjectNotSentError     an object that its server does not send, while it sends others
    │   ├── EventsNotOfferedError  the image store sends no notifications
    │   └── StoreUnavailableError  the image store cannot be reached
    ├── RegionIndexError           the index refused
    │   ├── IndexNotFoundError     nothing has been indexed under this URI
    │   ├── IndexMismatchError     schema, bits or fingerprint do not fit
    │   │   └── ProbeMismatchError     a saved probe of other models
    │   ├── IndexDamagedError      what comes back is not what was written
    │   ├── IndexReadOnlyError     an embedded index whose file cannot be written
    │   │   └── IndexFullError         whose disk has no room left
    │   └── IndexUnavailableError  the index cannot be reached, or answered too late
    ├── WebhookError               a webhook that did not take what it was sent
    ├── BackupError                a backup that is damaged, cut short, or of another version
    ├── LibraryError               a library that this package needs cannot be loaded
    ├── ServiceError               a part of the ingestion service did not come up, or ended
    └── ServeError                 the server of `searchanything serve` refused a request
        ├── AccessError            no key, one that is not valid, or one without this right
        ├── TooLargeError          more bytes or pixels than the server takes
        ├── BodyTimeoutError       a request whose body does not come in time
        ├── BusyError              more requests at once than the server takes: this one was not begun
        ├── AnswerTimeoutError     an answer that takes longer than the server's limit
        ├── NotOfferedError        something that this server, or its index, cannot do
        └── ServerUnreachableError nobody answers at the address, or something else does

Foreign errors (minio, pymilvus, grpc, ultralytics, Pillow) are mapped at the adapter that imports the library.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from searchanything.core.escaping import printable


class SearchAnythingError(Exception):
    """Base of all errors of this package."""


class LibraryError(SearchAnythingError):
    """A library that this package needs cannot be loaded on this machine.

    `library` is its module, `reason` the message of its import, `cure` the commands that fix it.
    """

    def __init__(self, library: str, reason: str, cure: str) -> None:
        super().__init__(f"{library} cannot be loaded: {reason}; {cure}")
        self.library = library
        self.reason = reason
        self.cure = cure

    def __reduce__(self) -> tuple[type[LibraryError], tuple[str, str, str]]:
        return type(self), (self.library, self.reason, self.cure)


class UsageError(SearchAnythingError, ValueError):
    """The request itself is wrong; repeating it does not help."""


class PromptError(UsageError):
    """A prompt that cannot be applied to this image."""


class FilterError(UsageError):
    """A search filter that cannot be expressed or understood."""


class WordsMissingError(UsageError):
    """The index has no words codes, which a search by words alone needs."""


class SettingsError(UsageError):
    """A setting that is missing, malformed or contradicts another."""


class PresetError(UsageError):
    """No preset was chosen, it is unknown, or it contradicts the index."""


class EventError(UsageError):
    """A bucket's notification in an unknown format."""


class UniformFeaturesError(UsageError):
    """Features that are all the same: no hash can be learnt from them."""


class NotOfferedHereError(UsageError, AttributeError):
    """A method of `Client` that needs the index itself, not a server. It is an AttributeError: `hasattr` says False."""


class ImageError(SearchAnythingError):
    """An object that claims to be an image and cannot be decoded.

    `name` is the object's key or path; `reason` one line without the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{printable(name)}: {printable(reason)}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class AnnotationsError(SearchAnythingError):
    """An annotation file that cannot be read, or is not in its format.

    `path` is the file, `field` where in it (`annotations[3].bbox`), `reason` what came and what was expected.
    """

    def __init__(self, path: Path, field: str, reason: str) -> None:
        super().__init__(printable(f"{path}: {field}: {reason}"))
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
    """Weights turn out to be damaged or foreign in the middle of work: the whole run ends, and no image is blamed."""


class DeviceError(SearchAnythingError):
    """The models fail on a built-in image, too, so no image is at fault, but the device, its driver or this process.

    `reason` is what the device said in process `pid` of `host`.
    """

    def __init__(self, reason: str, *, host: str, pid: int) -> None:
        super().__init__(
            f"expected the models to encode a built-in image, got {reason} (process {pid} on {host}); nothing is "
            f"recorded against the images: run the same again in a new process, and look at the device and its driver "
            f"if that fails as well"
        )
        self.reason = reason
        self.host = host
        self.pid = pid

    def __reduce__(self) -> tuple[object, ...]:
        return partial(DeviceError, host=self.host, pid=self.pid), (self.reason,)


class StoreError(SearchAnythingError):
    """The image store refused a request."""


class ObjectNotFoundError(StoreError):
    """No such bucket, folder or object."""


class UnusableKeyError(StoreError):
    """An object's key that no index can keep: not UTF-8, too long or with a null character."""


class ObjectChangedError(StoreError):
    """The object is no longer the one that was listed."""


class ObjectNotSentError(StoreError):
    """The image store sends other objects, but not this one: it is damaged there, or a part of the store is away."""


class EventsNotOfferedError(StoreError):
    """The image store sends no notifications, so only a sync finds changes."""


class StoreUnavailableError(StoreError):
    """The image store cannot be reached."""


class RegionIndexError(SearchAnythingError):
    """The region index refused a request."""


class IndexNotFoundError(RegionIndexError):
    """Nothing has been indexed under this URI."""


class IndexMismatchError(RegionIndexError):
    """The schema, the code length or the fingerprint does not fit this index."""


class ProbeMismatchError(IndexMismatchError):
    """A saved probe of other models: the probe has to change, not the index."""


class IndexDamagedError(RegionIndexError):
    """What comes back is not what was written: the file or the server's data are damaged. Never an empty index."""


class IndexReadOnlyError(RegionIndexError):
    """An embedded index that can be read, but whose file or folder cannot be written."""


class IndexFullError(IndexReadOnlyError):
    """Nothing can be added to an embedded index, because its disk is full. What is in it stays."""


class IndexUnavailableError(RegionIndexError):
    """The region index cannot be reached, or answered too late."""


class WebhookError(SearchAnythingError):
    """A webhook did not take what it was sent: it cannot be reached, or refused."""


class BackupError(SearchAnythingError):
    """A backup that is damaged, cut short, or was written by another version."""


class ServiceError(SearchAnythingError):
    """A part of the ingestion service (Prefect, the coordinator) did not come up, or ended with an error."""


class ServeError(SearchAnythingError):
    """The server refused a request that may be valid."""


class AccessError(ServeError):
    """No key was given, or it is not (or no longer) valid, or it does not give this right.

    `known` tells whether the key was valid.
    """

    def __init__(self, message: str, *, known: bool = False) -> None:
        super().__init__(message)
        self.known = known


class TooLargeError(ServeError):
    """More bytes or pixels than the server takes."""


class BodyTimeoutError(ServeError):
    """The body of a request did not arrive in time."""


class BusyError(ServeError):
    """More requests at once than the server takes: this one was not begun; ask again after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AnswerTimeoutError(ServeError):
    """The answer takes longer than the server's limit. The work may go on: asking again at once adds load."""


class NotOfferedError(ServeError):
    """Something that this server, or its index, cannot do."""


class ServerUnreachableError(ServeError):
    """Nobody answers at the address, or what answers is not `searchanything serve`."""
