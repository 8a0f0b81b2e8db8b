"""The settings of `searchanything serve`, which `core.settings` holds with all others."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, Field

from searchanything.core.pattern_lists import PatternList

MOST_SECONDS: Final = 1e9  # of a setting: what waits for longer, or for ever, libraries refuse each in its own way


class ServeSettings(BaseModel):
    """The web page and REST: `searchanything serve`."""

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback, keys are demanded.")
    port: int = Field(8600, ge=0, le=65535, description="Port to listen on; 0 for any free one.")
    folder: Path | None = Field(
        None, description="Keys and uploads; by default beside the index. Servers behind one balancer share it."
    )
    allowed_hosts: PatternList = Field(
        (),
        description="Names by which browsers may reach the server, as `search.example.org`, where keys are demanded; "
        "addresses always may.",
    )
    webhooks: PatternList = Field(
        (),
        description="Where standing queries that are added through the server may send to: addresses, or beginnings of "
        "their paths, as `https://ops.example.org/hooks/`. None: nowhere.",
    )
    keys: Literal["auto", "always"] = Field("auto", description="`always` demands keys on loopback, too.")
    preload: bool = Field(default=True, description="Load the models at the start, not at the first question.")
    model_requests: int = Field(2, ge=1, le=64, description="Requests at once that compute with the models.")
    index_requests: int = Field(16, ge=1, le=256, description="Requests at once that ask the index alone.")
    waiting_requests: int = Field(
        16, ge=0, le=10_000, description="Requests that wait for the models; one more is answered 429."
    )
    timeout_s: float = Field(
        60.0, gt=0, le=MOST_SECONDS, description="Longest time for one answer, waiting included, in seconds."
    )
    header_timeout_s: float = Field(
        15.0, gt=0, le=MOST_SECONDS, description="Longest time for the head of a request, in seconds."
    )
    body_timeout_s: float = Field(
        15.0,
        gt=0,
        le=MOST_SECONDS,
        description="Longest time without progress (16 KiB, or the end) of a request's body, in seconds.",
    )
    connections: int = Field(
        512,
        ge=1,
        le=100_000,
        description="Connections at once; one more closes the one that waits longest for a request.",
    )
    max_hits: int = Field(200, ge=1, le=10_000, description="Most hits of one answer.")
    upload_bytes: int = Field(32 * 2**20, ge=1, description="Larger uploads are refused.")
    upload_pixels: int = Field(40_000_000, ge=1, description="Uploads with more pixels are refused.")
    uploads_bytes: int = Field(2**30, ge=1, description="Kept of all uploads together; the oldest go first.")
    upload_age_s: float = Field(
        24 * 3600.0, gt=0, le=MOST_SECONDS, description="Uploads are deleted after so many seconds."
    )
    thumbnails_bytes: int = Field(64 * 2**20, ge=0, description="Small pictures kept in memory, in bytes.")
    warm_idle_s: float = Field(
        300.0,
        ge=0,
        le=MOST_SECONDS,
        description="The process that answers the command line ends after so many idle seconds; 0: none.",
    )
    listed_images: int = Field(
        100_000, ge=1, description="Images looked at to list those of a prefix; more are found by a longer prefix."
    )
