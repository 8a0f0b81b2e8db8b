"""What the live index holds, for whoever sees all of it and for whoever sees some places alone."""

from __future__ import annotations

from dataclasses import asdict

from searchanything.client.connection import Connection
from searchanything.client.consistency import kept_consistency
from searchanything.ingest.garbage import holdings
from searchanything.ingest.reports import IndexStatus


def index_status_of(connection: Connection) -> IndexStatus:
    """What `Client.status` says; within places nothing outside them is counted."""
    indexes = connection.indexes
    live = indexes.live()
    if live is None:
        return IndexStatus(indexes.uri)
    index = connection.scoped(indexes.open(live.fingerprint))
    held = holdings(index)
    measured = None if connection.places else kept_consistency(indexes, live.fingerprint)
    return IndexStatus(
        indexes.uri,
        **asdict(held.counts),
        manifest=live,
        collections=index.collections,
        garbage=held.garbage,
        lost=held.lost,
        words=index.words,
        words_regions=index.count_words(),
        consistency=None if measured is None else measured.to_dict(),
    )
