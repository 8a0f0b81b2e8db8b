"""The settings of standing queries, which `core.settings` holds with all others."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, Field, SecretStr

from searchanything.core.serve_settings import MOST_SECONDS

MOST_WEBHOOK_S: Final = 60.0  # far less than the lease of who sends lasts, which is renewed between messages


class StandingSettings(BaseModel):
    """Standing queries: `searchanything standing`."""

    every_s: float = Field(
        30.0, gt=0, le=MOST_SECONDS, description="How often `watch` asks the standing queries that have a webhook."
    )
    overlap_s: float = Field(
        3600.0,
        ge=0,
        le=MOST_SECONDS,
        description="What was indexed so long before the last look is looked at again: a worker may write late, and "
        "another machine's clock may differ.",
    )
    timeout_s: float = Field(
        10.0, gt=0, le=MOST_WEBHOOK_S, description="Longest wait for a webhook that is sent matches, in seconds."
    )
    secret: SecretStr | None = Field(
        None, description="Secret that what is sent to webhooks is signed with (standardwebhooks.com, `whsec_…`)."
    )
