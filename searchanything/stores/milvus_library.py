"""What is used of pymilvus, imported without pandas and requests: its older interface and its cloud's take these."""

from __future__ import annotations

from searchanything.core.put_off import put_off

with put_off("pandas", "pandas.api", "pandas.api.types", "requests"):
    from pymilvus import DataType, MilvusClient, MilvusException
    from pymilvus.client.types import LoadState

__all__ = ["DataType", "LoadState", "MilvusClient", "MilvusException"]
