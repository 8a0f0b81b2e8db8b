"""Errors of minio, urllib3 and the operating system as `StoreError`s, in one place."""

from __future__ import annotations

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError, MaxRetryError, ResponseError, SSLError

from searchanything.core.errors import ObjectNotFoundError, StoreError, StoreUnavailableError
from searchanything.core.settings import ENV_PREFIX
from searchanything.stores.s3_access import BUSY_STATUS, SentOnError

_NOT_FOUND = frozenset({"NoSuchKey", "NoSuchBucket", "ResourceNotFound"})
_REFUSED = frozenset({"AccessDenied", "SignatureDoesNotMatch", "AllAccessDisabled"})
_WRONG_KEYS = frozenset({"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed"})
_CURES = {
    "ExpiredToken": "the session token has expired, so set new keys",
    "RequestTimeTooSkewed": "set this machine's clock",
    "AuthorizationHeaderMalformed": f"set {ENV_PREFIX}STORAGE__REGION to the bucket's region",
    "PermanentRedirect": f"set {ENV_PREFIX}STORAGE__REGION to the bucket's region",
    "InvalidObjectState": "it is archived: restore it, then `searchanything failed retry`",
    "BadRequest": f"check {ENV_PREFIX}STORAGE__ENDPOINT, …SECURE and …REGION",
}

# ValueError: minio refuses keys such as `a/../b`, and answers whose fields are missing; SyntaxError: broken XML.
FOREIGN_ERRORS = (MinioException, HTTPError, OSError, ValueError, SyntaxError)


def store_error(error: Exception, *, subject: str, endpoint: str, credentials: str = "") -> StoreError:
    """An error of `FOREIGN_ERRORS` in our words: what was asked for, what went wrong, what to do. Never any keys.

    `credentials` says what was tried for some.
    """
    with_what = f" (credentials: {credentials})" if credentials else ""
    match error:
        case S3Error():
            return _refusal(error, subject=subject, endpoint=endpoint, with_what=with_what)
        case MaxRetryError(reason=SSLError() as reason) | (SSLError() as reason):
            return StoreUnavailableError(
                f"{subject}: no TLS connection to {endpoint}: {reason}; set {ENV_PREFIX}STORAGE__SECURE=false if the "
                "server does not speak TLS, or …CA_FILE to the certificate of its authority"
            )
        case MaxRetryError(reason=ResponseError() as reason):
            return StoreUnavailableError(f"{subject}: {endpoint} is overloaded or broken ({reason}); try later")
        case SentOnError():
            return StoreUnavailableError(f"{subject}: {error}")
        case HTTPError() | OSError():
            why = error.reason if isinstance(error, MaxRetryError) else error
            return StoreUnavailableError(
                f"{subject}: {endpoint} cannot be reached or does not answer ({type(why).__name__}: {why}); check "
                f"that the server runs, {ENV_PREFIX}STORAGE__ENDPOINT and …SECURE"
            )
        case ServerError() if error.status_code >= 500:
            return StoreUnavailableError(f"{subject}: {endpoint} answered with status {error.status_code}; try later")
        case ServerError() | InvalidResponseError() | SyntaxError() | UnicodeError():
            return StoreError(
                f"{subject}: the answer of {endpoint} is not S3 ({_one_line(error)}); check that "
                f"{ENV_PREFIX}STORAGE__ENDPOINT names the S3 port of the server and not its console{with_what}"
            )
        case _:
            return StoreError(f"{subject}: cannot be asked for at {endpoint}: {_one_line(error)}")


def _refusal(error: S3Error, *, subject: str, endpoint: str, with_what: str) -> StoreError:
    """What an S3 server's own error code means."""
    code = _one_line(error.code or "unknown code")  # a server may say anything
    if code in _NOT_FOUND:
        what = "object" if code == "NoSuchKey" else "bucket"
        at = "" if "/" in subject else f" at {endpoint}; check the name"  # of an object it is in answers of servers
        return ObjectNotFoundError(f"{subject}: no such {what}{at}")
    if code in _WRONG_KEYS or (code == "SignatureDoesNotMatch" and "/" not in subject):
        # In the midst of a run: none of its images is to count as one that failed.
        way_out = _CURES.get(code, f"check {ENV_PREFIX}STORAGE__ACCESS_KEY and …SECRET_KEY")
        return StoreUnavailableError(f"{subject}: {endpoint} denied access ({code}); {way_out}, then repeat{with_what}")
    if code in _REFUSED:
        return StoreError(
            f"{subject}: {endpoint} denied access ({code}); check {ENV_PREFIX}STORAGE__ACCESS_KEY, …SECRET_KEY and "
            f"the bucket's policy{with_what}"
        )
    if error.response.status in BUSY_STATUS:
        return StoreUnavailableError(f"{subject}: {endpoint} is overloaded or broken ({code}); try later")
    cure = _CURES.get(code)
    return StoreError(
        f"{subject}: {endpoint} refused ({code}: {_one_line(error.message)})"
        + (f"; {cure}" if cure else "")
        + with_what
    )


def with_notes_of(mapped: StoreError, error: Exception) -> StoreError:
    """An error of ours with the notes of the one that it stands for."""
    for note in getattr(error, "__notes__", ()):
        mapped.add_note(note)
    return mapped


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())[:200]
