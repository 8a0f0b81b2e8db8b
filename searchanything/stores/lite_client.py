"""A client of an embedded server, whose searches and queries are read column by column.

pymilvus makes a dictionary of each row, in Python: of 141 rows with 18 fields these take as long as the search itself.
Here the two calls that a question consists of go over a channel of their own, in Milvus' wire format (`milvus.proto`,
whose messages pymilvus ships): a field of an answer is one list already, and `zip` makes the rows. So do insertions,
which pymilvus would send again where the file refuses them: the rows of each attempt stay in the server's memory.
Everything else is pymilvus'. A server at an address is always asked by pymilvus, which knows tokens, TLS and the times
of own writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from searchanything.stores.milvus_client import IN_ORDER_OF_IDS, FoundRows, RowClient, RowPage, RowSearch, in_order
from searchanything.stores.milvus_insertion import insert_request
from searchanything.stores.milvus_library import check_status, common_pb2, grpc, milvus_pb2, schema_pb2
from searchanything.stores.milvus_schema import Entity
from searchanything.stores.row_checks import MAX_LIMIT

# Milvus Lite's server breaks off a connection that is idle and pings every ten seconds, as pymilvus' do; a Unix socket
# needs no pings to tell that the other end is gone.
_NEVER_MS: Final = 2**31 - 1
_CHANNEL: Final = (
    ("grpc.keepalive_time_ms", _NEVER_MS),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # else it waits as long as a channel to an earlier server on this socket
)
_SERVICE: Final = "/milvus.proto.milvus.MilvusService"
_NUMBERS_AND_TEXTS: Final = {
    schema_pb2.VarChar: "string_data",
    schema_pb2.Int32: "int_data",
    schema_pb2.Int64: "long_data",
    schema_pb2.Float: "float_data",
}


class LiteClient(RowClient):
    """A client of the embedded server on a socket, which does one thing at a time and knows no consistency levels."""

    def __init__(self, socket_path: str, timeout_s: float) -> None:
        address = f"unix:{socket_path}"
        super().__init__(address, timeout=timeout_s, dedicated=True, grpc_options={"grpc.keepalive_time_ms": _NEVER_MS})
        self._rows_channel = grpc.insecure_channel(address, options=_CHANNEL)
        self._search_rows = self._rows_channel.unary_unary(
            f"{_SERVICE}/Search",
            request_serializer=milvus_pb2.SearchRequest.SerializeToString,
            response_deserializer=milvus_pb2.SearchResults.FromString,
        )
        self._query_rows = self._rows_channel.unary_unary(
            f"{_SERVICE}/Query",
            request_serializer=milvus_pb2.QueryRequest.SerializeToString,
            response_deserializer=milvus_pb2.QueryResults.FromString,
        )
        self._insert_rows = self._rows_channel.unary_unary(
            f"{_SERVICE}/Insert",
            request_serializer=milvus_pb2.InsertRequest.SerializeToString,
            response_deserializer=milvus_pb2.MutationResult.FromString,
        )

    def close(self) -> None:
        self._rows_channel.close()
        super().close()

    def nearest(self, asked: RowSearch, timeout_s: float) -> list[FoundRows]:
        answer = self._search_rows(_search_request(asked), timeout=timeout_s)
        check_status(answer.status)
        results = answer.results
        distances = list(map(round, results.scores))
        columns = _columns(results.fields_data, asked.fields, len(distances))
        rows = list(zip(distances, *columns, strict=True))
        found, start = [], 0
        for count in results.topks:
            found.append(in_order(rows[start : start + count]))
            start += count
        return found

    def rows(
        self,
        collection: str,
        expression: str,
        fields: Sequence[str],
        *,
        level: str,
        as_of: int | None = None,
        timeout_s: float,
    ) -> list[Entity]:
        del level, as_of
        return self._rows(collection, expression, fields, {"limit": str(MAX_LIMIT)}, timeout_s)

    def add(self, collection: str, entities: Sequence[Entity], timeout_s: float) -> int:
        answer = self._insert_rows(insert_request(collection, entities), timeout=timeout_s)
        check_status(answer.status)
        return int(answer.insert_cnt)

    def now(self, timeout_s: float) -> int:
        del timeout_s
        return 0

    def page(self, asked: RowPage, timeout_s: float) -> list[Entity]:
        fields = list(dict.fromkeys(("id", *asked.fields)))
        parameters = {"limit": str(asked.most), **IN_ORDER_OF_IDS}
        return self._rows(asked.collection, asked.whole_expression, fields, parameters, timeout_s)

    def _rows(
        self, collection: str, expression: str, fields: Sequence[str], parameters: Mapping[str, str], timeout_s: float
    ) -> list[Entity]:
        request = milvus_pb2.QueryRequest(
            collection_name=collection, expr=expression, output_fields=fields, query_params=_pairs(parameters)
        )
        answer = self._query_rows(request, timeout=timeout_s)
        check_status(answer.status)
        columns = _columns(answer.fields_data, fields, None)
        return [dict(zip(fields, values, strict=True)) for values in zip(*columns, strict=True)]


def _pairs(parameters: Mapping[str, str]) -> list[Any]:
    return [common_pb2.KeyValuePair(key=key, value=value) for key, value in parameters.items()]


def _search_request(asked: RowSearch) -> Any:  # noqa: ANN401 - generated by protobuf
    parameters = {
        "anns_field": "code",
        "topk": str(asked.limit),
        "metric_type": "HAMMING",
        "params": json.dumps(dict(asked.effort)),
    }
    codes = common_pb2.PlaceholderValue(tag="$0", type=common_pb2.BinaryVector, values=asked.codes)
    return milvus_pb2.SearchRequest(
        collection_name=asked.collection,
        dsl=asked.expression,
        dsl_type=common_pb2.BoolExprV1,
        placeholder_group=common_pb2.PlaceholderGroup(placeholders=[codes]).SerializeToString(),
        output_fields=asked.fields,
        nq=len(asked.codes),
        search_params=_pairs(parameters),
    )


def _columns(answered: Sequence[Any], fields: Sequence[str], count: int | None) -> list[list[Any]]:
    """The values of each field in its own list; where nothing was found, the server may leave fields out."""
    by_name: Mapping[str, Any] = {one.field_name: one for one in answered}
    if count == 0:
        return [[] for _ in fields]
    return [_values(by_name[name]) for name in fields]


def _values(column: Any) -> list[Any]:  # noqa: ANN401 - generated by protobuf
    """Values as pymilvus gives them: a vector of bytes as a list of one."""
    kind = _NUMBERS_AND_TEXTS.get(column.type)
    if kind is not None:
        return list(getattr(column.scalars, kind).data)
    if column.type == schema_pb2.JSON:
        return _objects(column.scalars.json_data.data)
    width, codes = column.vectors.dim // 8, column.vectors.binary_vector
    return [[codes[start : start + width]] for start in range(0, len(codes), width or 1)]


def _objects(texts: Sequence[bytes]) -> list[dict[str, Any]]:
    """JSON objects of numbers and texts. All regions of an image, and often of a bucket, have the same."""
    read = {text: json.loads(text) for text in set(texts)}
    return [dict(read[text]) for text in texts]
