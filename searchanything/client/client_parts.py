"""What a client's methods are made of: each part is imported and made when a method first needs it.

So `status`, or a look at what failed, imports what asks the index, and neither what segments and embeds nor what draws
and explains. Errors of these imports are those of a client that is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from searchanything.client.connection import Connection
from searchanything.core.libraries import importing
from searchanything.core.types import Place

if TYPE_CHECKING:
    from searchanything.client.asking import Asking
    from searchanything.client.failures import Failures
    from searchanything.client.hash_layers import HashLayers
    from searchanything.client.indexing import Ingestion
    from searchanything.client.kept_features import KeptFeatures
    from searchanything.client.model_change import Models
    from searchanything.client.operations import Operations
    from searchanything.client.standing_queries import StandingQueries
    from searchanything.client.syncing import Syncing


class ClientParts:
    """The parts of one client, or of a view of it.

    Thread-safe: of two threads that need a part at once each may make one, and one of them is kept.
    """

    def __init__(self, connection: Connection, *, whole: ClientParts | None = None) -> None:
        """`whole`: the parts that these are a view of."""
        self.connection = connection
        self._whole = whole

    def within(self, places: Sequence[Place]) -> ClientParts:
        """The parts of a view of these places, with the models and the open buckets of this one."""
        return ClientParts(self.connection.within(places), whole=self)

    @cached_property
    def asking(self) -> Asking:
        if self._whole is not None:
            return self._whole.asking.within(self.connection)
        with importing():
            from searchanything.client.asking import Asking
            from searchanything.client.refining import Judging

        return Asking(self.connection, Judging())

    @cached_property
    def syncing(self) -> Syncing:
        with importing():
            from searchanything.client.syncing import Syncing

        return Syncing(self.connection)

    @cached_property
    def ingestion(self) -> Ingestion:
        with importing():
            from searchanything.client.indexing import Ingestion

        return Ingestion(self.connection, self.syncing)

    @cached_property
    def failures(self) -> Failures:
        with importing():
            from searchanything.client.failures import Failures

        return Failures(self.connection)

    @cached_property
    def features(self) -> KeptFeatures:
        with importing():
            from searchanything.client.kept_features import KeptFeatures

        return KeptFeatures(self.connection)

    @cached_property
    def hash_layers(self) -> HashLayers:
        with importing():
            from searchanything.client.hash_layers import HashLayers

        return HashLayers(self.connection)

    @cached_property
    def models(self) -> Models:
        with importing():
            from searchanything.client.model_change import Models

        return Models(self.connection)

    @cached_property
    def standing(self) -> StandingQueries:
        if self._whole is not None:
            return self._whole.standing.within(self.asking)
        with importing():
            from searchanything.client.standing_queries import StandingQueries

        return StandingQueries.of(self.asking)

    @cached_property
    def operations(self) -> Operations:
        with importing():
            from searchanything.client.operations import Operations

        return Operations(self)
