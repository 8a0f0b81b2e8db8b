"""What is used of pymilvus, without what only its older interface and its cloud's take: pandas, requests, dateutil.

A process that answers and ends does without asyncio and the clients that are awaited, too. Nor does pymilvus set this
process's environment: it reads a `.env` from the working directory, or from a folder above its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from searchanything.core.put_off import put_off, questions_only

_UNUSED: Final = ("pandas", "pandas.api", "pandas.api.types", "requests", "dateutil", "dateutil.parser")
_AWAITED: Final = (
    "asyncio",
    "grpc.aio",
    "pymilvus.client.async_grpc_handler",
    "pymilvus.milvus_client.async_milvus_client",
)


@contextmanager
def _own_environment() -> Iterator[None]:
    """What a block adds to the environment is taken out again."""
    before = frozenset(os.environ)
    try:
        yield
    finally:
        for name in frozenset(os.environ) - before:
            del os.environ[name]


with _own_environment(), put_off(*_UNUSED, *(_AWAITED if questions_only() else ())):
    import grpc as grpc
    from pymilvus import DataType as DataType
    from pymilvus import MilvusClient as MilvusClient
    from pymilvus import MilvusException as MilvusException
    from pymilvus.client.ts_utils import construct_guarantee_ts as construct_guarantee_ts
    from pymilvus.client.types import LoadState as LoadState
    from pymilvus.client.utils import check_status as check_status
    from pymilvus.decorators import retry_on_rpc_failure as retry_on_rpc_failure
    from pymilvus.grpc_gen import common_pb2 as common_pb2
    from pymilvus.grpc_gen import milvus_pb2 as milvus_pb2
    from pymilvus.grpc_gen import schema_pb2 as schema_pb2
