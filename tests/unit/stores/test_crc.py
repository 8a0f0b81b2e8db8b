"""Checksums of large bodies, against published check values, zlib, and a bit-by-bit reckoning."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.stores.crc import CRC32C, CRC64NVME, crc, crc_base64

CRC32 = (32, 0xEDB88320)  # as zlib has it, to compare with
KINDS = {"CRC-32": CRC32, "CRC-32C": CRC32C, "CRC-64/NVME": CRC64NVME}


@pytest.mark.parametrize(
    ("name", "check"), [("CRC-32", 0xCBF43926), ("CRC-32C", 0xE3069283), ("CRC-64/NVME", 0xAE8B14860A799888)]
)
def test_the_check_values_of_the_catalogue(name: str, check: int) -> None:
    """Of the nine digits, as the catalogue of parametrised CRC algorithms lists them."""
    assert crc(b"123456789", KINDS[name]) == check


def bit_by_bit(data: bytes, width: int, polynomial: int) -> int:
    value = (1 << width) - 1
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
    return value ^ ((1 << width) - 1)


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 8192, 12_289, 40_961])
@pytest.mark.parametrize("name", KINDS)
def test_lanes_are_joined_rightly(name: str, length: int) -> None:
    data = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8).tobytes()
    assert crc(data, KINDS[name]) == bit_by_bit(data, *KINDS[name])


@given(st.binary(max_size=300), st.integers(0, 40_000))
@settings(max_examples=30, deadline=None)
def test_as_zlib(data: bytes, zeros: int) -> None:
    body = data + bytes(zeros) + data
    assert crc(body, CRC32) == zlib.crc32(body)


def test_headers_hold_it_big_endian() -> None:
    assert crc_base64(b"123456789", CRC32C) == "4waSgw=="
