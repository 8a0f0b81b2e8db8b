"""All settings, read from the environment (`SEARCHANYTHING_STORAGE__ENDPOINT=…`) or a settings file (`settings_files`).

`docs/settings.md` is generated from these classes by `searchanything.core.settings_table`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import MinLen
from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator

from searchanything.core.addresses import host_of, is_loopback
from searchanything.core.errors import SettingsError
from searchanything.core.model_settings import ModelSettings as ModelSettings  # of others, too
from searchanything.core.pattern_lists import PatternList
from searchanything.core.put_off import put_off, questions_only
from searchanything.core.serve_settings import MOST_SECONDS, ServeSettings
from searchanything.core.service_settings import ServiceSettings as ServiceSettings  # of others, too
from searchanything.core.settings_files import ENV_PREFIX as ENV_PREFIX  # of others, too
from searchanything.core.settings_files import OWN, SettingsPlace, check_trust, settings_files
from searchanything.core.standing_settings import StandingSettings

with put_off(*(("asyncio",) if questions_only() else ())):  # for commands that are awaited
    from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict

    from searchanything.core.unknown_settings import KnownSettings, unknown_settings, warn_of_unknown

OWN_PREFIX = ".searchanything/"


def default_index_uri() -> str:
    """The embedded index of this user: `~/.local/share/searchanything/index.db`."""
    return str(Path.home() / ".local" / "share" / "searchanything" / "index.db")


class StorageSettings(BaseModel):
    """The S3 server that holds the buckets."""

    endpoint: str | None = Field(
        None, description="Host and port of the S3 server, e.g. `localhost:9000`. By default AWS."
    )
    public_endpoint: str | None = Field(
        None,
        description="Address by which browsers reach the server, for signed links: `https://s3.example.org`. "
        "By default the endpoint.",
    )
    access_key: SecretStr | None = Field(None, description="Access key; without one, `credentials` says what is used.")
    secret_key: SecretStr | None = Field(None, description="Secret key.")
    session_token: SecretStr | None = Field(None, description="Session token of temporary keys.")
    credentials: Literal["auto", "aws", "anonymous"] = Field(
        "auto",
        description="Without keys here: AWS's own credential chain (`aws`: environment, profile, web identity, role "
        "of container or instance), none (`anonymous`), or the chain at AWS and none elsewhere (`auto`).",
    )
    profile: str | None = Field(None, description="Profile in `~/.aws`; by default `AWS_PROFILE`, else `default`.")
    secure: bool = Field(default=True, description="Speak TLS to the endpoint.")
    region: str | None = Field(None, description="Region of the bucket; if unset, AWS is asked for it.")
    addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Bucket in the path or in the host name; `auto`: in the host name only at AWS."
    )
    ca_file: Path | None = Field(None, description="CA certificates of the server, for TLS with a private authority.")
    proxy: str | None = Field(
        None,
        repr=False,  # it may hold a password, as the index's address may
        description="HTTP proxy to the S3 server, or `none`; by default `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` "
        "apply. This machine is never reached through a proxy.",
    )
    requester_pays: bool = Field(default=False, description="Agree to pay for requests to other people's buckets.")
    verify: bool = Field(
        default=True,
        description="Compare received bytes with the object's MD5 or checksum. Turn it off only for a server whose "
        "etags look like MD5 but are not.",
    )
    timeout_s: float = Field(30.0, gt=0, le=MOST_SECONDS, description="Longest wait for one answer, in seconds.")
    max_object_bytes: int = Field(256 * 2**20, gt=0, description="Larger objects fail without being read.")
    object_tags: bool = Field(
        default=False,
        description="Use objects' tags as metadata, too; costs a request per known image in each run.",
    )
    own_prefix: str = Field(
        OWN_PREFIX,
        description="Keys with this prefix are our own files in a bucket: never listed, indexed or reported.",
    )


class MilvusSettings(BaseModel):
    """Where the index lives and how it is built."""

    uri: Annotated[str, MinLen(1)] = Field(
        default_factory=default_index_uri,
        repr=False,
        description="A file name (embedded Milvus Lite), `http(s)://host:port` (Milvus server) or `memory://`.",
    )
    token: SecretStr | None = Field(None, description="`user:password` or an API key.")
    allow_unencrypted: bool = Field(
        default=False,
        description="Allow sending the token unencrypted to another machine (`http://`), in a trusted network.",
    )
    database: str = Field("default", description="Milvus database.")
    ca_file: Path | None = Field(None, description="CA certificate of the server, for TLS with a private authority.")
    client_cert_file: Path | None = Field(None, description="Client certificate, for mutual TLS.")
    client_key_file: Path | None = Field(None, description="Key of the client certificate.")
    collection_prefix: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,31}$")] = Field(
        "searchanything_", description="Prefix of every collection's and alias's name."
    )
    index_type: Literal["BIN_FLAT", "BIN_IVF_FLAT", "HNSW"] = Field(
        "BIN_FLAT",
        description="Of a new index: exact, or on a server approximate: inverted lists, or a graph where the server "
        "has one for binary vectors. `searchanything tune` compares them.",
    )
    nlist: int = Field(1024, ge=1, le=65536, description="Inverted lists (BIN_IVF_FLAT).")
    nprobe: int = Field(32, ge=1, le=65536, description="Inverted lists searched per query (BIN_IVF_FLAT).")
    hnsw_m: int = Field(16, ge=2, le=2048, description="Neighbours per node of the graph (HNSW).")
    ef_construction: int = Field(100, ge=1, le=32768, description="Candidates while the graph is built (HNSW).")
    ef: int = Field(128, ge=1, le=32768, description="Candidates per query (HNSW); at least the hits asked for.")
    consistency: Literal["Strong", "Session", "Bounded", "Eventually"] = Field(
        "Session", description="Consistency level of searches."
    )
    timeout_s: float = Field(
        30.0, gt=0, le=MOST_SECONDS, description="Longest wait for a call, in seconds; embedded, 1 more per 4 MB."
    )
    release_after_s: float = Field(
        3600.0,
        ge=0,
        le=MOST_SECONDS,
        description="A server's memory is freed of an index that stopped being live so long ago, by the next `index` "
        "or `sync repair`. It stays on disk and is loaded again when somebody opens it.",
    )
    lite_idle_s: float = Field(
        10.0,
        gt=0,
        le=MOST_SECONDS,
        description="The embedded index's server stops after this many seconds without a user.",
    )


class IngestSettings(BaseModel):
    """How a bucket is turned into an index."""

    batch_images: int = Field(
        16, ge=1, le=256, description="Images encoded together; a CPU segments 2 for each thread at a time."
    )
    transfer_threads: int = Field(8, ge=1, le=256, description="Objects fetched and decoded at once.")
    max_pixels: int = Field(100_000_000, ge=1, description="Images with more pixels fail without being decoded.")
    region_policy: Literal["largest", "stratified"] | None = Field(
        None, description="Which regions a new index keeps: the largest (default), or a third from each size class."
    )
    regions: int | None = Field(
        None, ge=1, le=1000, description="Regions kept of each image of a new index; 25 by default."
    )
    tiles: int | None = Field(
        None,
        ge=128,
        description="Side in pixels, such as 1280. Images of a new index that are longer are segmented in overlapping "
        "tiles as well, so that small things in them are found; then 100 regions are kept of each image, from all "
        "size classes, unless the settings say otherwise. Off by default.",
    )
    max_attempts: int = Field(
        3,
        ge=1,
        description="An image that failed this often with the same content is exhausted, and waits for "
        "`searchanything failed retry`. One that its server does not send, while it sends others, is tried for an hour "
        "at least.",
    )
    include: PatternList = Field((), description="Index only keys that match one of these, such as `*.jpg,2024/*`.")
    exclude: PatternList = Field((), description="Skip keys that match one of these.")
    sidecar_suffix: str | None = Field(
        None,
        min_length=1,
        description="`cat.jpg` takes metadata from `cat.jpg` + this suffix, such as `.json`; off if unset.",
    )
    regions_from: Literal["segmenter", "sidecar"] = Field(
        "segmenter",
        description="`sidecar`: an image whose sidecar has a list `regions` is indexed with these in place of the "
        "segmenter's.",
    )
    garbage_age_s: float = Field(
        24 * 3600.0,
        ge=1,
        le=MOST_SECONDS,
        description="`sync repair` deletes regions without an image that are older; no attempt may take longer.",
    )
    forget_images: int = Field(
        10,
        ge=0,
        description="A sync that would forget more images than this, and a larger share than `forget_share`, holds "
        "them back.",
    )
    forget_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the source's indexed images; see `forget_images`. A source without any image is always "
        "held back.",
    )
    forget_after_s: float = Field(
        3 * 24 * 3600.0,
        ge=0,
        le=MOST_SECONDS,
        description="Images that were held back are forgotten if a listing still lacks them after this many seconds.",
    )
    hash_sample_images: int = Field(
        400,
        ge=0,
        description="If a preset's hash is untrained, a new index trains one on this many images; 0: never.",
    )
    hash_least_regions: int = Field(
        200, ge=20, description="With fewer regions in that sample the hash stays untrained, and the log says so."
    )
    words: bool = Field(
        default=False,
        description="A new index gets words codes as well: it can be searched by a text without an image. "
        "`index --add-words` adds them to any index.",
    )
    keep_features: bool = Field(
        default=False,
        description="Keep each region's features, so that hash layers can be trained and applied without the models.",
    )
    features_dir: Path = Field(
        default_factory=lambda: Path.home() / ".local/share/searchanything/features",
        description="Where features of folders' images are kept; a bucket keeps its own, under our prefix.",
    )
    digests_dir: Path | None = Field(
        default_factory=lambda: Path.home() / ".cache/searchanything/digests",
        description="Where digests of folders' files are kept, so that unchanged ones are not read again.",
    )
    box_min_iou: float = Field(
        0.1,
        ge=0,
        le=1,
        description="If no mask reaches this IoU with a box prompt, or 3/10 of it and lies mostly in the box, "
        "the box itself is the region.",
    )


class SearchSettings(BaseModel):
    """How an index is searched."""

    rescore: int = Field(
        100,
        ge=0,
        le=2000,
        description="So many of the nearest by code are ordered by the query's real-valued projection; 0: none.",
    )
    rescore_words: int = Field(
        400, ge=0, le=2000, description="The same for texts without an image, which lie farther from what they name."
    )


class Settings(KnownSettings):
    """Settings of Search Anything, by group."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="ignore",
        validate_default=True,
        enable_decoding=False,  # a group given as one JSON value would fail outside of pydantic's validation
        hide_input_in_errors=True,
    )

    storage: StorageSettings = Field(default_factory=StorageSettings)
    milvus: MilvusSettings = Field(default_factory=MilvusSettings)
    models: ModelSettings = Field(default_factory=ModelSettings)
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    search: SearchSettings = Field(default_factory=SearchSettings)
    serve: ServeSettings = Field(default_factory=ServeSettings)
    service: ServiceSettings = Field(default_factory=ServiceSettings)
    standing: StandingSettings = Field(default_factory=StandingSettings)

    @field_validator("*", mode="before")
    @classmethod
    def _group_is_a_table(cls, value: object) -> object:
        if isinstance(value, str):
            message = f"a group takes nested names such as {ENV_PREFIX}MILVUS__URI, not one value"
            raise ValueError(message)  # noqa: TRY004  pydantic turns ValueError alone into a ValidationError
        return value


def load_settings() -> Settings:
    """Read the settings, from the places of `settings_files`.

    A name that is none, but was meant to be a setting, is told in a warning.

    Raises: SettingsError, which names variables but never their values; also where a credential would go to an address
    from a less trusted place.
    """
    files = settings_files()
    try:
        settings = Settings(_env_file=tuple(path for path, _ in files))
        check_trust(_places(files))
        warn_of_unknown(unknown_settings(Settings, [path for path, _ in files]))
    except ValidationError as error:
        wrong = "; ".join(
            f"{ENV_PREFIX}{'__'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(f"settings cannot be read: {wrong}") from None
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(str(path) for path, _ in files)
        raise SettingsError(f"a settings file cannot be read ({names}): {type(error).__name__}") from None
    return settings


def reading_settings(settings: Settings) -> dict[str, str]:
    """The settings that decide what is read of an image beside its pixels, by their names in the environment."""
    ingest, prefix = settings.ingest, f"{ENV_PREFIX}INGEST__"
    return {
        f"{prefix}SIDECAR_SUFFIX": ingest.sidecar_suffix or "",
        f"{prefix}REGIONS_FROM": ingest.regions_from,
        f"{ENV_PREFIX}STORAGE__OBJECT_TAGS": str(settings.storage.object_tags).lower(),
    }


def check_token(settings: MilvusSettings) -> None:
    """Raises: SettingsError if the token would travel unencrypted to another machine, unasked."""
    scheme, _, rest = settings.uri.partition("://")
    secret = settings.token is not None or "@" in rest.partition("/")[0]
    if scheme.lower() != "http" or not secret or settings.allow_unencrypted:
        return
    try:
        host = host_of(settings.uri)
    except ValueError:
        raise SettingsError(f"{ENV_PREFIX}MILVUS__URI: expected http(s)://host:port") from None
    if not is_loopback(host):
        raise SettingsError(
            f"the Milvus token would travel to {host} unencrypted; use https://, or set "
            f"{ENV_PREFIX}MILVUS__ALLOW_UNENCRYPTED=true if nobody else is in that network"
        )


def _places(files: list[tuple[Path, int]]) -> list[SettingsPlace]:
    """What each place says, the one that counts most first."""
    places = [SettingsPlace("the environment", EnvSettingsSource(Settings)(), OWN)]
    for path, trust in reversed(files):
        places.append(SettingsPlace(str(path), DotEnvSettingsSource(Settings, env_file=path)(), trust))
    return places
