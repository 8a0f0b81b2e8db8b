"""What is used of pymilvus, imported without pandas and requests: its older interface and its cloud's take these."""

from __future__ import annotations

from searchanything.core.put_off import put_off

with put_off("pandas", "pandas.api", "pandas.api.types", "requests"):
    from pymilvus import DataType, MilvusClient, MilvusException
    from pymilvus.client.types import LoadState
    from pymilvus.client.utils import check_status
    from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

__all__ = [
    "DataType",
    "LoadState",
    "MilvusClient",
    "MilvusException",
    "check_status",
    "common_pb2",
    "milvus_pb2",
    "schema_pb2",
]
