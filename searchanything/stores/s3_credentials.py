"""Credentials for S3: those of our settings, else AWS's own chain, else none (anonymous access).

The chain is that of AWS's programs: environment, web identity, profile, role of the container or instance. Looking for
an instance's role never waits for long: on a laptop nobody answers there. What is set up and cannot be had now is an
outage, and never a reason for anonymous access.
"""

from __future__ import annotations

import configparser
import json
import math
import os
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from minio.credentials.credentials import Credentials
from minio.credentials.providers import EnvAWSProvider, IamAwsProvider, Provider, StaticProvider
from minio.error import MinioException
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from searchanything.core.errors import StoreUnavailableError
from searchanything.core.settings import ENV_PREFIX, StorageSettings

_NO_CREDENTIALS = (
    *(ValueError, OSError, HTTPError, MinioException),
    *(configparser.Error, subprocess.TimeoutExpired),
    *(KeyError, TypeError, AttributeError, SyntaxError),  # answers that lack fields, or are no objects; XML of STS
)
_METADATA_WAIT: Final = Timeout(connect=0.5, read=2.0)
_ABSENT_S: Final = 600.0  # so long nobody is asked again where no instance answered
_PROCESS_WAIT_S: Final = 60.0
_VENDOR: Final = Path("/sys/class/dmi/id/sys_vendor")
_BUSY: Final = re.compile(r"HTTP status code (?:429|5\d\d)\b|failed with code \w")  # the latter: a role, but no keys
_absent_until: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Found:
    """What signs requests, None for anonymous access, and what was tried, in words; and how long that counts."""

    provider: Provider | None
    tried: tuple[str, ...]
    until: float = math.inf  # of the monotonic clock

    def __str__(self) -> str:
        return "; ".join(self.tried)


def find_credentials(settings: StorageSettings, *, at_aws: bool, http: PoolManager) -> Found:
    """The first credentials that there are. May ask a metadata service; secrets are never part of what is shown.

    Raises: StoreUnavailableError where some are set up, and cannot be had now.
    """
    if settings.access_key is not None and settings.secret_key is not None:
        token = settings.session_token
        given = StaticProvider(
            settings.access_key.get_secret_value(),
            settings.secret_key.get_secret_value(),
            token.get_secret_value() if token else None,
        )
        return Found(given, ("keys of the settings",))
    if settings.credentials == "anonymous" or (settings.credentials == "auto" and not at_aws):
        return Found(None, ("anonymous access, as no keys are set",))
    tried: list[str] = []
    for name, make in _chain(settings, http):
        try:
            provider = _Kept(make())
            provider.retrieve()
        except _OutError as error:
            raise StoreUnavailableError(
                f"credentials for S3 are set up, and cannot be had now: {'; '.join(tried)}; {name}: no ({error}); "
                f"repeat when they can, or set {ENV_PREFIX}STORAGE__CREDENTIALS=anonymous if the bucket is public"
            ) from error
        except _NO_CREDENTIALS as error:
            tried.append(f"{name}: no ({_reason(error)})")
        else:
            return Found(provider, (*tried, f"{name}: found"))
    return Found(None, (*tried, "anonymous access"), time.monotonic() + _ABSENT_S)


def profile_name(settings: StorageSettings) -> str:
    """The profile that counts."""
    return settings.profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"


class _OutError(ValueError):
    """A place that is set up to give credentials gives none at present; the text is one of `_reason`."""


class _SetUp(Provider):
    """A place that somebody has set up: another one's credentials, or none, would not be what they want."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def retrieve(self) -> Credentials:
        try:
            return self._provider.retrieve()
        except _NO_CREDENTIALS as error:
            raise _OutError(_reason(error)) from error


class _Kept(Provider):
    """Credentials until shortly before they expire. Thread-safe.

    Raises: StoreUnavailableError where others are to follow and cannot be had: that is no fault of what is asked for.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._lock = threading.Lock()
        self._kept: Credentials | None = None

    def retrieve(self) -> Credentials:
        with self._lock:
            if self._kept is None:
                self._kept = self._provider.retrieve()
            elif self._kept.is_expired():
                try:
                    self._kept = self._provider.retrieve()
                except _NO_CREDENTIALS as error:
                    raise StoreUnavailableError(
                        f"the credentials for S3 have expired, and there are no new ones yet ({_reason(error)}); what "
                        "is done stays, go on when there are"
                    ) from error
            return self._kept


class _ProcessProvider(Provider):
    """What a profile's `credential_process` prints, as `aws-vault` and single sign-on use it."""

    def __init__(self, command: str) -> None:
        self._command = command

    def retrieve(self) -> Credentials:
        done = subprocess.run(
            shlex.split(self._command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROCESS_WAIT_S,
            check=False,
        )
        if done.returncode != 0:
            raise ValueError(f"credential_process ended with {done.returncode}")
        answer = json.loads(done.stdout)
        expires = answer.get("Expiration")
        return Credentials(
            answer["AccessKeyId"],
            answer["SecretAccessKey"],
            answer.get("SessionToken"),
            datetime.fromisoformat(expires) if expires else None,
        )


def _chain(settings: StorageSettings, http: PoolManager) -> Iterator[tuple[str, Callable[[], Provider]]]:
    profile = profile_name(settings)
    of_profile = (f"profile {profile}", lambda: _of_profile(profile))
    if settings.profile:  # chosen on purpose, so before what lies in the environment
        yield of_profile
    yield "environment (AWS_ACCESS_KEY_ID)", EnvAWSProvider
    if os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        yield "web identity", lambda: _SetUp(IamAwsProvider(http_client=http))
    if not settings.profile:
        yield of_profile
    if os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        yield "role of the container", lambda: _SetUp(IamAwsProvider(http_client=_metadata_client()))
    elif not os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        yield "role of the instance", _InstanceProvider


class _InstanceProvider(Provider):
    """The role of an EC2 instance. Where none ever answered, nobody is asked again for a while.

    On a machine of EC2, silence is an outage, as a failing service is anywhere.
    """

    def __init__(self) -> None:
        self._is_there = False
        self._address = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/")
        self._provider = IamAwsProvider(custom_endpoint=self._address or None, http_client=_metadata_client())

    def retrieve(self) -> Credentials:
        if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            raise ValueError("AWS_EC2_METADATA_DISABLED")
        if not self._is_there and time.monotonic() < _absent_until.get(self._address, 0.0):
            raise ValueError("this is no instance")
        try:
            found = self._provider.retrieve()
        except (HTTPError, OSError) as error:
            if self._is_there or _is_ec2():
                raise _OutError(_reason(error)) from error
            _absent_until[self._address] = time.monotonic() + _ABSENT_S
            raise ValueError("this is no instance") from None
        except ValueError as error:
            raise (_OutError(_reason(error)) if _BUSY.search(str(error)) else error) from None
        self._is_there = True
        return found


def _is_ec2() -> bool:
    try:
        return _VENDOR.read_text().startswith("Amazon EC2")
    except OSError:
        return False


def _metadata_client() -> PoolManager:
    """Never by a proxy, never for long."""
    return PoolManager(timeout=_METADATA_WAIT, retries=Retry(total=0, redirect=0))


def _of_profile(profile: str) -> Provider:
    """A profile's keys, from `~/.aws/credentials` or `~/.aws/config`, or what its `credential_process` prints."""
    shared, config = configparser.RawConfigParser(), configparser.RawConfigParser()  # in which a % is one
    shared.read(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or str(Path.home() / ".aws" / "credentials"))
    if (keys := _keys_in(shared, profile)) is not None:
        return keys
    config.read(os.environ.get("AWS_CONFIG_FILE") or str(Path.home() / ".aws" / "config"))
    section = "default" if profile == "default" else f"profile {profile}"
    if command := config.get(section, "credential_process", fallback=""):
        return _SetUp(_ProcessProvider(command))
    instead = f'run: eval "$(aws configure export-credentials --profile {profile} --format env)"'
    if config.get(section, "sso_start_url", fallback="") or config.get(section, "sso_session", fallback=""):
        raise ValueError(f"single sign-on; {instead}")
    if config.get(section, "role_arn", fallback=""):
        raise ValueError(f"a role to take; {instead}")
    if (keys := _keys_in(config, section)) is not None:
        return keys
    raise ValueError("none there")


def _keys_in(file: configparser.RawConfigParser, section: str) -> StaticProvider | None:
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    access_key, secret_key, token = (file.get(section, name, fallback="") for name in names)
    return StaticProvider(access_key, secret_key, token or None) if access_key and secret_key else None


def _reason(error: Exception) -> str:
    """One short line without keys or tokens."""
    if isinstance(error, configparser.Error):
        return str(error).partition("\n")[0]  # what follows is a line of the file, which may hold a key
    if isinstance(error, subprocess.TimeoutExpired):
        return f"credential_process did not end within {_PROCESS_WAIT_S:.0f} s"
    text = re.sub(r"\?\S*", "?…", " ".join(str(error).split()))  # a web identity's token stands in the address
    return "none there" if "Access key must not be empty" in text else text[:160] or type(error).__name__
