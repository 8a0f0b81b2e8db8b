"""What Milvus' messages are read as where they hold nothing, or less than was asked for."""

from __future__ import annotations

import pytest
from pymilvus import MilvusException
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

from searchanything.stores.milvus_questions import found_rows, read_rows


def test_a_search_that_finds_nothing_may_leave_its_fields_out() -> None:
    answer = milvus_pb2.SearchResults(results=schema_pb2.SearchResultData(num_queries=2, topks=[0, 0]))
    assert found_rows(answer, ["id", "key"]) == [[], []]


def test_an_answer_without_a_field_is_an_error_and_not_empty() -> None:
    texts = schema_pb2.ScalarField(string_data=schema_pb2.StringArray(data=["a"]))
    column = schema_pb2.FieldData(type=schema_pb2.VarChar, field_name="id", scalars=texts)
    answer = milvus_pb2.QueryResults(fields_data=[column])
    assert read_rows(answer, ["id"]) == [{"id": "a"}]
    with pytest.raises(MilvusException, match="key, region"):
        read_rows(answer, ["id", "key", "region"])


def test_a_collection_that_a_server_calls_empty_has_no_rows() -> None:
    for status in ({"code": 26}, {"error_code": 26}):
        answer = milvus_pb2.QueryResults(status=status)
        assert read_rows(answer, ["id", "key"]) == []
    with pytest.raises(MilvusException, match="id, key"):
        read_rows(milvus_pb2.QueryResults(), ["id", "key"])
