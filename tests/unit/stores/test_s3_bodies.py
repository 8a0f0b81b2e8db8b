"""Bodies of S3 objects: a flipped byte is never taken for the object, and what is packed is unpacked within limits."""

from __future__ import annotations

import base64
import gzip
import hashlib
import zlib
from collections.abc import Callable, Mapping
from types import SimpleNamespace

import pytest
from fakes.http_servers import Answer, Asked, web_server
from fakes.indexing import RED
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.errors import ImageError, StoreError
from searchanything.core.settings import StorageSettings
from searchanything.stores import s3
from searchanything.stores.crc import CRC32C, CRC64NVME, crc
from searchanything.stores.s3 import S3Store
from searchanything.stores.s3_bodies import DamagedTransferError, Limits, check_body, unpacked

LIMITS = Limits(1 << 20, 5.0)
pytestmark = pytest.mark.usefixtures("quick_retries")


def store(endpoint: str, **others: object) -> S3Store:
    return S3Store(
        StorageSettings.model_validate({"endpoint": endpoint, "secure": False, "region": "r", **others}), "bucket"
    )


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def flipped(data: bytes, place: int = 100) -> bytes:
    place %= len(data)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def b64(number: int, size: int) -> str:
    return base64.b64encode(number.to_bytes(size, "big")).decode()


def sha(name: str, data: bytes) -> str:
    return base64.b64encode(hashlib.new(name, data).digest()).decode()


SAID: dict[str, Callable[[bytes], Mapping[str, str]]] = {
    "etag": lambda data: {"ETag": f'"{md5(data)}"'},
    "upper-case etag": lambda data: {"ETag": f'"{md5(data).upper()}"'},
    "sse-s3": lambda data: {"ETag": f'"{md5(data)}"', "x-amz-server-side-encryption": "AES256"},
    "content-md5": lambda data: {"ETag": '"x-1"', "Content-MD5": sha("md5", data)},
    "crc32": lambda data: {"ETag": '"x-2"', "x-amz-checksum-crc32": b64(zlib.crc32(data), 4)},
    "crc32c": lambda data: {"ETag": '"x-2"', "x-amz-checksum-crc32c": b64(crc(data, CRC32C), 4)},
    "crc64": lambda data: {
        "ETag": '"x-2"',
        "x-amz-checksum-crc64nvme": b64(crc(data, CRC64NVME), 8),
        "x-amz-checksum-type": "FULL_OBJECT",
    },
    "sha1": lambda data: {"ETag": '"x"', "x-amz-checksum-sha1": sha("sha1", data)},
    "sha256": lambda data: {"ETag": '"x"', "x-amz-checksum-sha256": sha("sha256", data)},
    "packed at Google": lambda data: {
        "ETag": f'"{md5(data)}"',
        "x-goog-stored-content-encoding": "gzip",
        "Content-Encoding": "gzip",
    },
    "kms with a checksum": lambda data: {
        "ETag": f'"{md5(b"other")}"',
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-checksum-sha256": sha("sha256", data),
    },
}
UNSAID: dict[str, Mapping[str, str]] = {
    "multipart": {"ETag": f'"{md5(b"other")}-3"'},
    "kms": {"ETag": f'"{md5(b"other")}"', "x-amz-server-side-encryption": "aws:kms"},
    "two layers of kms": {"ETag": f'"{md5(b"other")}"', "x-amz-server-side-encryption": "aws:kms:dsse"},
    "key of the customer": {
        "ETag": f'"{md5(b"other")}"',
        "x-amz-server-side-encryption-customer-algorithm": "AES256",
    },
    "directory bucket": {"ETag": f'"{md5(b"other")}"', "x-amz-storage-class": "EXPRESS_ONEZONE"},
    "weak": {"ETag": f'W/"{md5(b"other")}"'},
    "unpacked by Google": {"ETag": f'"{md5(b"other")}"', "x-goog-stored-content-encoding": "gzip"},
    "parts": {"ETag": '"x-2"', "x-amz-checksum-crc32": "AAAAAA==-2"},
    "composite": {"ETag": '"x-2"', "x-amz-checksum-sha256": "AAAA", "x-amz-checksum-type": "COMPOSITE"},
    "no etag": {},
    "foreign etag": {"ETag": '"e1"'},
}


class TestTransfers:
    @pytest.mark.parametrize("said", SAID)
    def test_a_flipped_byte_is_noticed_and_asked_for_again(self, said: str) -> None:
        answers = iter([flipped(RED), flipped(RED, -1), RED])
        with web_server(lambda _: (200, SAID[said](RED), next(answers))) as server:
            found, data = store(server.endpoint).read("a.png")
            assert data == RED
            assert found.size_bytes == len(RED)
        assert len(server.asked) == 3
        assert all(asked.headers["x-amz-checksum-mode"] == "ENABLED" for asked in server.asked)

    @pytest.mark.parametrize("said", SAID)
    def test_one_that_is_always_damaged_is_an_error_of_that_object(self, said: str) -> None:
        with (
            web_server(lambda _: (200, SAID[said](RED), flipped(RED))) as server,
            pytest.raises(StoreError, match=r"bucket/a\.png: arrived damaged .* 3 times .*upload it again"),
        ):
            store(server.endpoint).read("a.png")
        assert len(server.asked) == 3

    def test_each_further_attempt_waits_longer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waited: list[float] = []
        monkeypatch.setattr(s3, "BACKOFF_S", 10.0)
        monkeypatch.setattr(s3, "time", SimpleNamespace(sleep=waited.append))
        with web_server(lambda _: (200, SAID["etag"](RED), flipped(RED))) as server, pytest.raises(StoreError):
            store(server.endpoint).read("a.png")
        assert waited == [0.0, 10.0, 30.0]

    @pytest.mark.parametrize("said", UNSAID)
    def test_what_says_nothing_of_the_bytes_is_not_compared(self, said: str) -> None:
        with web_server(lambda _: (200, UNSAID[said], RED)) as server:
            assert store(server.endpoint).read("a.png")[1] == RED
        assert len(server.asked) == 1

    def test_a_setting_switches_it_off(self) -> None:
        with web_server(lambda _: (200, SAID["etag"](RED), flipped(RED))) as server:
            assert store(server.endpoint, verify=False).read("a.png")[1] == flipped(RED)
        assert "x-amz-checksum-mode" not in server.asked[0].headers

    def test_one_that_does_not_say_how_large_it_is_stays_within_the_limits(self) -> None:
        def answer(_: Asked) -> Answer:
            return (
                200,
                {"Transfer-Encoding": "chunked"},
                b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (RED, b"")),
            )

        with web_server(answer) as server:
            assert store(server.endpoint, max_object_bytes=len(RED)).read("a.png")[1] == RED
            with pytest.raises(ImageError, match="MAX_OBJECT_BYTES"):
                store(server.endpoint, max_object_bytes=len(RED) - 1).read("a.png")

    def test_a_part_is_not_the_whole(self) -> None:
        with web_server(lambda _: (206, SAID["etag"](RED), RED[:10])) as server:
            assert store(server.endpoint).read_part("a.png", first=0, count=10) == RED[:10]
        assert server.asked[0].headers["range"] == "bytes=0-9", "no more is fetched"

    def test_what_is_written_has_its_type_and_failures_are_of_the_store(self) -> None:
        answers = iter([(200, {"ETag": '"e1"'}, b""), *[(403, {}, b"")] * 3])
        with web_server(lambda _: next(answers)) as server:
            written = store(server.endpoint)
            assert written.upload("a.png", RED, content_type="image/png", metadata={"place": "here"}) == "e1"
            for call in (lambda: written.upload("a.png", RED), lambda: written.delete("a.png"), written.remove_bucket):
                with pytest.raises(StoreError, match="bucket"):
                    call()
        headers = server.asked[0].headers
        assert (headers["content-type"], headers["x-amz-meta-place"]) == ("image/png", "here")

    @given(st.binary(min_size=1, max_size=2000), st.integers(0, 10**6), st.integers(0, 7), st.sampled_from([*SAID]))
    @settings(max_examples=60, deadline=None)
    def test_any_flipped_bit_is_noticed(self, data: bytes, place: int, bit: int, said: str) -> None:
        place %= len(data)
        damaged = data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]
        check_body(SAID[said](data), data)
        with pytest.raises(DamagedTransferError):
            check_body(SAID[said](data), damaged)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": gzip.compress(RED),
    "x-gzip": gzip.compress(RED),
    "GZIP": gzip.compress(RED[:50]) + gzip.compress(RED[50:]) + bytes(8),  # members, and padding
    "deflate": zlib.compress(RED),
    " deflate ": raw_deflate(RED),
    "gzip, gzip": gzip.compress(gzip.compress(RED)),
    "deflate, gzip": gzip.compress(zlib.compress(RED)),
    "aws-chunked,gzip": gzip.compress(RED),
    "gzip,aws-chunked": gzip.compress(RED),
    "aws-chunked": RED,
    "identity": RED,
    "": RED,
}


class TestEncodings:
    @pytest.mark.parametrize("encoding", PACKED)
    def test_what_is_packed_is_unpacked_and_keeps_its_etag(self, encoding: str) -> None:
        body = PACKED[encoding]
        headers = {"ETag": f'"{md5(body)}"', "Content-Encoding": encoding}
        with web_server(lambda _: (200, headers, body)) as server:
            found, data = store(server.endpoint).read("a.png")
        assert data == RED
        assert (found.etag, found.size_bytes) == (md5(body), len(body))

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "aws-chunked", "whatever"])
    def test_what_was_unpacked_on_the_way_is_taken_as_it_is(self, encoding: str) -> None:
        assert unpacked("a.png", {"content-encoding": encoding}, RED, LIMITS) == RED

    @pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "x-secret"])
    def test_others_are_named(self, encoding: str) -> None:
        with pytest.raises(ImageError, match=f"Content-Encoding '{encoding}'.*gzip and deflate"):
            unpacked("a.png", {"Content-Encoding": encoding}, b"\x28\xb5\x2f\xfd....", LIMITS)

    def test_frames_of_an_upload_are_named(self) -> None:
        body = b"400;chunk-signature=" + b"a" * 64 + b"\r\n" + RED
        with pytest.raises(ImageError, match="aws-chunked"):
            unpacked("a.png", {"content-encoding": "aws-chunked"}, body, LIMITS)

    @pytest.mark.parametrize("cut", [1, 9, 20])
    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate, gzip"])
    def test_cut_off_is_said(self, encoding: str, cut: int) -> None:
        with pytest.raises(ImageError, match=r"stored compressed .* cut off"):
            unpacked("a.png", {"content-encoding": encoding}, PACKED[encoding][:-cut], LIMITS)

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate, gzip"])
    def test_damaged_is_said(self, encoding: str) -> None:
        """It was uploaded so: a stream's last byte is of its checksum or of its length."""
        with pytest.raises(ImageError, match=r"stored compressed .* damaged"):
            unpacked("a.png", {"content-encoding": encoding}, flipped(PACKED[encoding], -1), LIMITS)

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip", "members"])
    def test_a_bomb_stays_within_the_limits(self, encoding: str) -> None:
        zeros = bytes(LIMITS.most_bytes)
        bomb = {
            "gzip": gzip.compress(zeros + b"x"),
            "deflate": zlib.compress(zeros + b"x"),
            "gzip, gzip": gzip.compress(gzip.compress(zeros + b"x")),
            "members": gzip.compress(zeros) + gzip.compress(b"x"),
        }[encoding]
        with pytest.raises(ImageError, match="MAX_OBJECT_BYTES"):
            unpacked("a.png", {"content-encoding": encoding.replace("members", "gzip")}, bomb, LIMITS)
        assert unpacked("a.png", {"content-encoding": "gzip"}, gzip.compress(zeros), LIMITS) == zeros

    def test_a_broken_transfer_of_a_packed_body_is_asked_for_again(self) -> None:
        body = gzip.compress(RED)
        headers = {"ETag": f'"{md5(body)}"', "Content-Encoding": "gzip"}
        answers = iter([flipped(body, 20), body])

        def answer(_: Asked) -> Answer:
            return 200, headers, next(answers)

        with web_server(answer) as server:
            assert store(server.endpoint).read("a.png")[1] == RED
