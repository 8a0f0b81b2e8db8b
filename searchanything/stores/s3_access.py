"""How an S3 server is reached: its address, the bucket's region, the connections and who signs.

Where no server is named it is AWS. Nothing is contacted before the first request.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import certifi
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Retry, Timeout, make_headers
from urllib3.exceptions import HTTPError

from searchanything.core.addresses import is_loopback, shown_address
from searchanything.core.errors import SettingsError, StoreUnavailableError
from searchanything.core.patience import patiently
from searchanything.core.reading import kind_at
from searchanything.core.settings import ENV_PREFIX, StorageSettings
from searchanything.stores.s3_client import DEFAULT_REGION, S3Client
from searchanything.stores.s3_credentials import Found, find_credentials

logger = logging.getLogger(__name__)

Pool = TypeVar("Pool", bound="S3Pool")
AWS: Final = "s3.amazonaws.com"
BUSY_STATUS: Final = (429, 500, 502, 503, 504)
RETRIES: Final = 3
BACKOFF_S: Final = 0.2
_CONNECT_TIMEOUT_S: Final = 5.0  # a server that can be reached answers a connection at once
_BRIEF_S: Final = 5.0  # most is answered in milliseconds; who is asked may stall
_ENDPOINT: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(\d{1,5}))?")
_AWS_HOST: Final = re.compile(r"(?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?", re.IGNORECASE)
_XML: Final = frozenset({"application/xml", "text/xml"})
_ERROR: Final = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<Error[\s>]")
_regions: dict[tuple[str, str], str] = {}  # of buckets at AWS, which never move


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 server's checked address. `by_aws` is True where AWS itself or AWS's own variables name it."""

    endpoint: str
    secure: bool
    by_aws: bool

    @property
    def host(self) -> str:
        return self.endpoint.rpartition(":")[0] if re.search(r":\d+$", self.endpoint) else self.endpoint

    @property
    def is_aws(self) -> bool:
        return _AWS_HOST.fullmatch(self.host) is not None


def server_of(settings: StorageSettings) -> S3Server:
    """The server that the settings name, or AWS's own variables; else AWS. Raises: SettingsError."""
    if bool(settings.access_key) != bool(settings.secret_key):
        raise SettingsError(
            f"set both {ENV_PREFIX}STORAGE__ACCESS_KEY and …SECRET_KEY, or neither (then …CREDENTIALS says what counts)"
        )
    if settings.endpoint:
        server = S3Server(_checked(settings.endpoint), settings.secure, by_aws=False)
        return S3Server(server.endpoint, server.secure, by_aws=server.is_aws)
    ignored = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    for variable in () if ignored else ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if address := os.environ.get(variable):
            return _server_at(address, variable)
    region = settings.region or ""
    return S3Server(f"s3.{region}.amazonaws.com.cn" if region.startswith("cn-") else AWS, settings.secure, by_aws=True)


def public_settings(settings: StorageSettings) -> StorageSettings:
    """The server as browsers see it; it may be out of our reach, so its region is never asked for."""
    address = settings.public_endpoint
    if not address:
        return settings
    server = _server_at(address, f"{ENV_PREFIX}STORAGE__PUBLIC_ENDPOINT")
    change = {"endpoint": server.endpoint, "secure": server.secure, "region": settings.region or DEFAULT_REGION}
    return settings.model_copy(update=change)


class S3Access:
    """minio's client of one bucket, made at the first need: credentials and region may have to be looked for.

    Thread-safe. Raises: SettingsError if endpoint, keys, region, proxy or certificate are malformed.
    """

    def __init__(self, settings: StorageSettings, bucket: str, http: PoolManager) -> None:
        self.server = server_of(settings)
        self._settings, self._bucket, self._http = settings, bucket, http
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._brief_client: S3Client | None = None
        self._found: Found | None = None
        _minio(self.server, settings, settings.region, Found(None, ()), http)

    @property
    def client(self) -> S3Client:
        """The client. Raises: what a request raises."""
        with self._lock:
            if self._client is None or (self._found and time.monotonic() >= self._found.until):
                self._found = find_credentials(self._settings, at_aws=self.server.by_aws, http=self._http)
                logger.info("%s: %s", self.server.endpoint, self._found)
                self._client, self._brief_client = self._made(self._found, self._http), None
            return self._client

    @property
    def brief_client(self) -> S3Client:
        """One that asks once and waits for seconds, to see how the server is. Raises: what a request raises."""
        client = self.client
        with self._lock:
            if self._brief_client is None and self._found is not None:
                http = http_client(self._settings, 1, S3Pool, brief=True)
                self._brief_client = self._made(self._found, http)
            return self._brief_client or client

    def _made(self, found: Found, http: PoolManager) -> S3Client:
        return _minio(self.server, self._settings, self.region, found, http)

    @property
    def credentials(self) -> str:
        """What was tried for credentials so far, in words; "" before the first request."""
        return "" if self._found is None else str(self._found)

    @property
    def region(self) -> str | None:
        """The bucket's region, where it is set or AWS tells."""
        if self._settings.region or not self.server.is_aws:
            return self._settings.region
        known = (self.server.endpoint, self._bucket)
        if known not in _regions:
            found = _region_at_aws(self.server, self._bucket, self._http)
            if found is None:
                return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            _regions[known] = found
        return _regions[known]


def describe_access(settings: StorageSettings, bucket: str) -> str:
    """How a bucket is reached, in words: server, region, proxy, and what was tried for credentials.

    AWS and a metadata service may be asked. Raises: SettingsError.
    """
    http = http_client(settings, 1, S3Pool)
    access = S3Access(settings, bucket, http)
    try:
        found = str(find_credentials(settings, at_aws=access.server.by_aws, http=http))
    except StoreUnavailableError as error:
        found = str(error)
    server = f"{'https' if access.server.secure else 'http'}://{access.server.endpoint}"
    named = "" if settings.endpoint else " (no STORAGE__ENDPOINT is set)"
    proxy = proxy_of(settings)
    by = f", by the proxy {urlsplit(proxy).netloc.rpartition('@')[2]}" if proxy else ""
    return f"{server}{named}, region {access.region or 'not known'}{by}; credentials: {found}"


class SentOnError(HTTPError):
    """A server sends on to another address: it is named wrong, or a page stands for it while it is away."""


class S3Pool(PoolManager):
    """Connections of an S3 server. minio knows errors by their status and the type `application/xml` alone.

    So an error by the name of `text/xml`, and one that comes with the status 200, as a server has begun to answer
    before it failed, become such. Signatures are good for one address: who is sent on to another has the wrong one.
    """

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> BaseHTTPResponse:  # type: ignore[override]  # noqa: ANN401, FBT001, FBT002
        """As `PoolManager.urlopen`. Raises: SentOnError as well."""
        response = super().urlopen(method, url, False, **options)  # noqa: FBT003
        if redirect and (location := response.get_redirect_location()):
            response.close()
            raise SentOnError(_sent_on(url, location, response.headers.get("x-amz-bucket-region")))
        kind, _, parameters = response.headers.get("content-type", "").partition(";")
        if kind.strip().lower() not in _XML:
            return response
        if response.status == 200 and options.get("preload_content", True) and _ERROR.match(response.data):
            response.status = 500
        if response.status >= 300:
            response.headers["content-type"] = f"application/xml;{parameters}"
        return response


class PatientPool(S3Pool):
    """Connections of one S3 server, which `long_work` waits for."""

    server: S3Server

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> BaseHTTPResponse:  # type: ignore[override]  # noqa: ANN401, FBT001, FBT002
        """As `PoolManager.urlopen`."""
        request = partial(super().urlopen, method, url, redirect, **options)
        return patiently(request, asked_of(self.server, url), HTTPError)


def _sent_on(url: str, location: str, region: str | None) -> str:
    asked, other = urlsplit(url), urlsplit(urljoin(url, location))
    where = f" (region {region})" if region else ""
    return (
        f"{asked.scheme}://{asked.netloc} sends on to {other.scheme}://{other.netloc}{where}; set "
        f"{ENV_PREFIX}STORAGE__ENDPOINT and …SECURE to the server itself, and …REGION to the bucket's region"
    )


def asked_of(server: S3Server, url: str) -> str:
    """Who is asked at an address, in words: the server, by whatever name of its or of its buckets' hosts, or another.

    Of AWS's hosts those of S3 are one server: they are named after the bucket, its region or both.
    """
    parts = urlsplit(url)
    host, own = parts.hostname or "", server.host.strip("[]").lower()
    is_own = f".{host}".endswith(f".{own}")
    is_s3 = server.is_aws and _AWS_HOST.fullmatch(host) is not None and "s3" in host.split(".")
    return s3_server(server.endpoint if is_own or is_s3 else parts.netloc)


def s3_server(host: str) -> str:
    """A server in words, for who waits for it."""
    return f"the image store at {host}"


def http_client(settings: StorageSettings, connections: int, kind: type[Pool], *, brief: bool = False) -> Pool:
    """Connections with bounded waits. Requests are repeated after I/O errors and busy answers, never after refusals.

    `brief`: they are not repeated, and waited for only for seconds.

    Raises: SettingsError for a proxy or certificate that cannot be used.
    """
    timeout_s = min(settings.timeout_s, _BRIEF_S) if brief else settings.timeout_s
    retries = Retry(
        total=0 if brief else RETRIES,
        backoff_factor=BACKOFF_S,
        backoff_jitter=BACKOFF_S,
        status_forcelist=BUSY_STATUS,
        respect_retry_after_header=False,  # it may ask for hours
        redirect=0,
    )
    options: dict[str, Any] = {
        "num_pools": 4,
        "maxsize": connections,
        "timeout": Timeout(connect=min(_CONNECT_TIMEOUT_S, timeout_s), read=timeout_s),
        "retries": retries,
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": _authorities(settings),
    }
    proxy = proxy_of(settings)
    if proxy is None:
        return _of_server(kind(**options), settings)
    parts = urlsplit(proxy)
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    headers = make_headers(proxy_basic_auth=login) if login else None
    bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    by_proxy = type(f"{kind.__name__}ByProxy", (kind, ProxyManager), {})
    return _of_server(cast("Pool", by_proxy(bare, proxy_headers=headers, **options)), settings)


def _of_server(pool: Pool, settings: StorageSettings) -> Pool:
    if isinstance(pool, PatientPool):
        pool.server = server_of(settings)
    return pool


def proxy_of(settings: StorageSettings) -> str | None:
    """The HTTP proxy by which the server is reached; None for none. Raises: SettingsError for another kind."""
    server = server_of(settings)
    host = server.host
    if is_loopback(host) or (settings.proxy or "").lower() == "none":
        return None
    proxy = settings.proxy
    if not proxy and not proxy_bypass(server.endpoint):
        proxies = getproxies_environment()
        proxy = proxies.get("https" if server.secure else "http") or proxies.get("all")
    if not proxy:
        return None
    address = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(
            f"the proxy to {host} is none that is known; expected http://host:port in {ENV_PREFIX}STORAGE__PROXY or "
            "HTTPS_PROXY, or `none`"
        )
    return address


def _authorities(settings: StorageSettings) -> str:
    """The file of certificates that are trusted."""
    if settings.ca_file is None:
        return os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or certifi.where()
    path = Path(settings.ca_file).expanduser()
    if kind_at(path, "certificates", raised=SettingsError) != "file":
        raise SettingsError(f"{ENV_PREFIX}STORAGE__CA_FILE names {path}, and there is no such file")
    return str(path)


def _minio(
    server: S3Server, settings: StorageSettings, region: str | None, found: Found, http: PoolManager
) -> S3Client:
    try:
        client = S3Client(
            server.endpoint, secure=server.secure, region=region, http_client=http, credentials=found.provider
        )
    except ValueError as error:
        raise SettingsError(f"{ENV_PREFIX}STORAGE__ENDPOINT or …REGION cannot be used: {error}") from None
    if settings.addressing == "virtual":
        client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    elif settings.addressing == "path":
        client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    return client


def _region_at_aws(server: S3Server, bucket: str, http: PoolManager) -> str | None:
    """AWS tells it to anybody, in whatever it answers; `GetBucketLocation` would take a right that few have."""
    scheme = "https" if server.secure else "http"
    try:
        answer = http.request("HEAD", f"{scheme}://{server.endpoint}/{bucket}", redirect=False, retries=False)
    except (HTTPError, OSError) as error:
        logger.info("%s: the region of %s is not known: %s", server.endpoint, bucket, error)
        return None
    return answer.headers.get("x-amz-bucket-region")


def _server_at(address: str, variable: str) -> S3Server:
    """A server by its whole address. Raises: SettingsError."""
    scheme, _, host = address.rstrip("/").rpartition("://")
    if scheme not in ("http", "https") or not _ENDPOINT.fullmatch(host):
        shown = shown_address(address)
        raise SettingsError(f"{variable}: expected an address such as https://s3.example.org, got '{shown}'")
    return S3Server(host, scheme == "https", by_aws=True)


def _checked(endpoint: str) -> str:
    """The endpoint. A wrong one is shown only if it cannot hold a password."""
    variable = f"{ENV_PREFIX}STORAGE__ENDPOINT"
    if "@" in endpoint:
        raise SettingsError(f"{variable} holds an '@'; keys go into {ENV_PREFIX}STORAGE__ACCESS_KEY and …SECRET_KEY")
    bare = re.sub(r"^https?://", "", endpoint).rstrip("/")
    found = _ENDPOINT.fullmatch(endpoint)
    if not found:
        secure = f" and {ENV_PREFIX}STORAGE__SECURE=false" if endpoint.startswith("http://") else ""
        instead = f"; write {bare}{secure}" if bare != endpoint and _ENDPOINT.fullmatch(bare) else ""
        raise SettingsError(
            f"{variable}: expected host:port without scheme and path, got '{shown_address(endpoint)}'{instead}"
        )
    if found[1] and not 0 < int(found[1]) < 65536:
        raise SettingsError(f"{variable}: expected a port from 1 to 65535, got '{endpoint}'")
    return endpoint
