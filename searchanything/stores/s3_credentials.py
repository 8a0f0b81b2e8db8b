"""Credentials for S3: those of our settings, else AWS's own chain, else none (anonymous access).

The chain is that of AWS's programs: environment, web identity, profile, role of the container or instance. Looking for
an instance's role never waits for long: on a laptop nobody answers there.
"""

from __future__ import annotations

import configparser
import json
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
from minio.credentials.providers import AWSConfigProvider, EnvAWSProvider, IamAwsProvider, Provider, StaticProvider
from minio.error import MinioException
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from searchanything.core.settings import StorageSettings

# KeyError, TypeError: answers that lack fields. SyntaxError: XML of STS.
_NO_CREDENTIALS = (ValueError, OSError, HTTPError, MinioException, KeyError, TypeError, SyntaxError, configparser.Error)
_METADATA_WAIT: Final = Timeout(connect=0.5, read=2.0)
_ABSENT_S: Final = 600.0  # so long nobody is asked again where no instance answered
_PROCESS_WAIT_S: Final = 60.0
_absent_until: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Found:
    """What signs requests, None for anonymous access, and what was tried, in words."""

    provider: Provider | None
    tried: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(self.tried)


def find_credentials(settings: StorageSettings, *, at_aws: bool, http: PoolManager) -> Found:
    """The first credentials that there are. May ask a metadata service; secrets are never part of what is shown."""
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
    tried = []
    for name, make in _chain(settings, http):
        try:
            provider = _Kept(make())
            provider.retrieve()
        except _NO_CREDENTIALS as error:
            tried.append(f"{name}: no ({_reason(error)})")
        else:
            return Found(provider, (*tried, f"{name}: found"))
    return Found(None, (*tried, "anonymous access"))


def profile_name(settings: StorageSettings) -> str:
    """The profile that counts."""
    return settings.profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"


class _Kept(Provider):
    """Credentials until shortly before they expire. Thread-safe."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._lock = threading.Lock()
        self._kept: Credentials | None = None

    def retrieve(self) -> Credentials:
        with self._lock:
            if self._kept is None or self._kept.is_expired():
                self._kept = self._provider.retrieve()
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
        yield "web identity", lambda: IamAwsProvider(http_client=http)
    if not settings.profile:
        yield of_profile
    if os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        yield "role of the container", lambda: IamAwsProvider(http_client=_metadata_client())
    elif not os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        yield "role of the instance", _InstanceProvider


class _InstanceProvider(Provider):
    """The role of an EC2 instance. Where none answered, nobody is asked again for a while."""

    def __init__(self) -> None:
        self._address = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/")
        self._provider = IamAwsProvider(custom_endpoint=self._address or None, http_client=_metadata_client())

    def retrieve(self) -> Credentials:
        if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            raise ValueError("AWS_EC2_METADATA_DISABLED")
        if time.monotonic() < _absent_until.get(self._address, 0.0):
            raise ValueError("this is no instance")
        try:
            return self._provider.retrieve()
        except (HTTPError, OSError):
            _absent_until[self._address] = time.monotonic() + _ABSENT_S
            raise ValueError("this is no instance") from None


def _metadata_client() -> PoolManager:
    """Never by a proxy, never for long."""
    return PoolManager(timeout=_METADATA_WAIT, retries=Retry(total=0, redirect=0))


def _of_profile(profile: str) -> Provider:
    """A profile's keys, from `~/.aws/credentials` or `~/.aws/config`, or what its `credential_process` prints."""
    config = Path(os.environ.get("AWS_CONFIG_FILE") or Path.home() / ".aws" / "config")
    section = "default" if profile == "default" else f"profile {profile}"
    shared = AWSConfigProvider(profile=profile)
    try:
        shared.retrieve()
    except ValueError:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(config)
        if command := parser.get(section, "credential_process", fallback=""):
            return _ProcessProvider(command)
        if parser.get(section, "sso_start_url", fallback="") or parser.get(section, "sso_session", fallback=""):
            raise ValueError(
                f'single sign-on; run: eval "$(aws configure export-credentials --profile {profile} --format env)"'
            ) from None
        if parser.get(section, "role_arn", fallback=""):
            raise ValueError(
                f'a role to take; run: eval "$(aws configure export-credentials --profile {profile} --format env)"'
            ) from None
        return AWSConfigProvider(filename=str(config), profile=section)
    return shared


def _reason(error: Exception) -> str:
    """One short line; minio's texts name files and profiles, never keys."""
    text = re.sub(r"\?\S*", "?…", " ".join(str(error).split()))  # a web identity's token stands in the address
    if "Access key must not be empty" in text or "access key does not exist" in text.lower():
        return "none there"
    return text[:160] or type(error).__name__
