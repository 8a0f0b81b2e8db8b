"""Prefect's SQLite: a transaction that may write takes its turn when it begins.

Prefect begins them as readers. SQLite refuses a reader's write at once if another one wrote since it began, however
long it may wait otherwise (SQLITE_BUSY_SNAPSHOT; Prefect's WAL and busy timeout do not help): "database is locked". The
API answers 503 then, and its client tries again after 2 s, a few times.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from prefect.server.database.configurations import AioSqliteConfiguration
    from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


def writers_wait() -> AbstractContextManager[Any]:
    """Within it, Prefect's server has SQLite's writers wait for each other; other databases do so by themselves."""
    from prefect.server.database.dependencies import temporary_database_config
    from prefect.server.utilities.database import get_dialect
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    return temporary_database_config(writing_in_turn(url)) if get_dialect(url).name == "sqlite" else nullcontext()


def writing_in_turn(url: str) -> AioSqliteConfiguration:
    """Prefect's own configuration of a SQLite database, whose transactions begin as writers."""
    from prefect.server.database.configurations import AioSqliteConfiguration

    class WritingInTurn(AioSqliteConfiguration):
        @asynccontextmanager
        async def begin_transaction(
            self,
            session: AsyncSession,
            with_for_update: bool = False,  # noqa: ARG002, FBT001, FBT002  as it is called
        ) -> AsyncGenerator[AsyncSessionTransaction, None]:
            async with super().begin_transaction(session, with_for_update=True) as transaction:
                yield transaction

    return WritingInTurn(connection_url=url)
