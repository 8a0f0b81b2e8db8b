"""The settings of the ingestion service, which `core.settings` holds with all others."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr

from searchanything.core.serve_settings import MOST_SECONDS


class ServiceSettings(BaseModel):
    """The ingestion service: `searchanything watch`, its workers and its flows."""

    folder: Path | None = Field(
        None, description="State and logs of `watch`, Prefect's database included; by default beside the index."
    )
    prefect_port: int = Field(
        4200, ge=1, le=65535, description="Port of the Prefect server that `watch` starts; if it is taken, a free one."
    )
    workers: int = Field(1, ge=1, le=256, description="Worker processes that `watch` starts; each loads the models.")
    scheduler: str | None = Field(
        None, description="Dask scheduler to use, e.g. `tls://host:8786`; without one, `watch` starts its own."
    )
    cluster_key_file: Path | None = Field(
        None,
        description="Key and certificate (PEM) that scheduler, workers and watcher share; anyone who has it can run "
        "code there. `watch` makes a new one for its own scheduler; `searchanything cluster-key FILE` makes one for "
        "yours.",
    )
    scheduler_host: str = Field(
        "127.0.0.1", description="Address on which `watch`'s own scheduler listens, for workers with the cluster's key."
    )
    scheduler_port: int = Field(0, ge=0, le=65535, description="Port of `watch`'s own scheduler; 0 for any free one.")
    batch_keys: int = Field(32, ge=1, le=64, description="Images per task.")
    wave_keys: int = Field(256, ge=1, le=512, description="Images per run of the flow `index`.")
    waves: int = Field(2, ge=1, le=64, description="Runs of the flow `index` at once.")
    quiet_s: float = Field(
        0.3, ge=0, le=MOST_SECONDS, description="A wave begins when no event has come for this many seconds."
    )
    longest_wait_s: float = Field(
        1.0,
        ge=0,
        le=MOST_SECONDS,
        description="A wave begins at the latest when an event has waited this many seconds.",
    )
    queue_keys: int = Field(100_000, ge=1, description="Longest queue of keys; events beyond it are left to a sync.")
    sync_s: float = Field(900.0, gt=0, le=MOST_SECONDS, description="Seconds between syncs if the server sends events.")
    poll_s: float = Field(30.0, gt=0, le=MOST_SECONDS, description="Seconds between syncs if it sends none.")
    period_s: float = Field(
        3600.0,
        gt=0,
        le=MOST_SECONDS,
        description="Length of a run of the flow `watch`, in seconds; then the next one begins.",
    )
    retries: int = Field(3, ge=0, le=20, description="Retries of a batch after I/O errors, with growing pauses.")
    batch_timeout_s: float = Field(
        1800.0,
        gt=0,
        le=MOST_SECONDS,
        description="Seconds that a worker may run a batch, at each try; a worker that runs it longer is "
        "replaced, a quarter later at most, and the batch halved until the image at fault is alone.",
    )
    sheet_images: int = Field(
        0,
        ge=0,
        le=64,
        description="Images on the contact sheet of a run, with their regions outlined; deleted with their images.",
    )
    webhook_port: int | None = Field(
        None, ge=0, le=65535, description="Port of the webhook on which `watch` takes notifications; off if unset."
    )
    webhook_host: str = Field("127.0.0.1", description="Address of the webhook.")
    webhook_token: SecretStr | None = Field(None, description="Token that notifications must carry.")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Port on which `watch` gives its figures to Prometheus; off if unset."
    )
    metrics_host: str = Field("127.0.0.1", description="Address of the figures, which ask for no key.")
    alert_block: str | None = Field(
        None, description="Prefect notification block that announces failures, e.g. `slack-webhook/ops`."
    )
