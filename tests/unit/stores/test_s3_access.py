"""How S3 servers are reached: AWS where none is named, whose credentials, which region, by which proxy."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.http_servers import Answer, Asked, WebServer, web_server
from pydantic import SecretStr
from urllib3 import PoolManager, ProxyManager

from searchanything.core.errors import ObjectNotFoundError, SettingsError, StoreError, StoreUnavailableError
from searchanything.core.settings import Settings, StorageSettings
from searchanything.stores import s3_access, s3_credentials
from searchanything.stores.s3 import S3Store
from searchanything.stores.s3_access import proxy_of, server_of
from searchanything.stores.s3_events import BucketEvents
from searchanything.wiring import s3_access as s3_access_of

LISTING = b"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>open-data</Name>
<IsTruncated>false</IsTruncated><Contents><Key>a.jpg</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>
<ETag>"e1"</ETag><Size>3</Size></Contents></ListBucketResult>"""
DENIED = b"""<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"""
KEYS = {"AccessKeyId": "AKROLE", "SecretAccessKey": "role-secret", "Token": "role-token"}
NOWHERE = "http://127.0.0.1:9"  # the discard port: refused at once


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A laptop without any credentials, on which nothing is remembered."""
    for name in list(os.environ):
        if name.upper().startswith(("AWS_", "MINIO_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", NOWHERE)
    monkeypatch.setattr(s3_access, "_regions", {})
    monkeypatch.setattr(s3_credentials, "_absent_until", {})
    (tmp_path / ".aws").mkdir()
    return tmp_path


def aws(asked: Asked) -> Answer:
    """AWS, as a proxy sees it, with one bucket in Frankfurt."""
    if asked.method == "HEAD" and asked.target == "http://s3.amazonaws.com/open-data":
        return 403, {"x-amz-bucket-region": "eu-central-1"}, b""
    if asked.target.startswith("http://open-data.s3.eu-central-1.amazonaws.com/"):
        return 200, {"Content-Type": "application/xml"}, LISTING
    if asked.target.startswith("http://s3.eu-central-1.amazonaws.com/open-data"):
        return 200, {"Content-Type": "application/xml"}, LISTING
    return 403, {"Content-Type": "application/xml"}, DENIED


def at_aws(server: WebServer, **others: object) -> StorageSettings:
    """Settings that name no server. The test's server is a proxy, and sees what AWS would: hence no TLS."""
    return StorageSettings.model_validate({"secure": False, "proxy": f"http://{server.endpoint}", **others})


def listed(settings: StorageSettings) -> list[str]:
    return [one.ref.key for one in S3Store(settings, "open-data").list()]


def signer(asked: Asked) -> str:
    """The access key that signed a request; "" for none."""
    return asked.headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]


class TestAws:
    def test_a_public_bucket_needs_no_settings(self) -> None:
        with web_server(aws) as server:
            assert listed(at_aws(server)) == ["a.jpg"]
        assert [signer(asked) for asked in server.asked] == ["", ""]

    def test_a_region_counts_where_the_bucket_is_sent_on_to(self) -> None:
        def sending_on(asked: Asked) -> Answer:
            status, headers, body = aws(asked)
            sent_on = {**headers, "Location": "http://open-data.s3.eu-central-1.amazonaws.com/"}
            return (307, sent_on, body) if asked.method == "HEAD" else (status, headers, body)

        with web_server(sending_on) as server:
            assert listed(at_aws(server)) == ["a.jpg"]
        assert len(server.asked) == 2

    def test_an_error_is_one_by_either_name_of_xml_by_a_proxy_as_well(self) -> None:
        missing = b"<Error><Code>NoSuchBucket</Code></Error>"
        with (
            web_server(lambda _: (404, {"Content-Type": "text/xml"}, missing)) as server,
            pytest.raises(ObjectNotFoundError, match="no such bucket"),
        ):
            listed(at_aws(server, region="eu-central-1"))

    def test_the_region_is_asked_for_once(self) -> None:
        with web_server(aws) as server:
            listed(at_aws(server))
            listed(at_aws(server))
        assert [asked.method for asked in server.asked] == ["HEAD", "GET", "GET"]

    def test_a_set_region_is_taken(self) -> None:
        with web_server(aws) as server:
            listed(at_aws(server, region="eu-central-1"))
        assert [asked.method for asked in server.asked] == ["GET"]

    @pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
    def test_the_environment_says_it_where_aws_does_not(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(name, "eu-central-1")

        def silent(asked: Asked) -> Answer:
            return (403, {}, b"") if asked.method == "HEAD" else aws(asked)

        with web_server(silent) as server:
            assert listed(at_aws(server)) == ["a.jpg"]

    def test_path_style(self) -> None:
        with web_server(aws) as server:
            assert listed(at_aws(server, addressing="path")) == ["a.jpg"]
        assert server.asked[-1].target.startswith("http://s3.eu-central-1.amazonaws.com/open-data?")

    def test_requester_pays(self) -> None:
        with web_server(aws) as server:
            settings = at_aws(server, requester_pays=True, access_key="AK", secret_key="SK")
            listed(settings)
            S3Store(settings, "open-data").read("b.jpg")
            S3Store(settings, "open-data").stat("b.jpg")
        for asked in server.asked[1:]:
            assert asked.headers["x-amz-request-payer"] == "requester"
            assert "x-amz-request-payer" in asked.headers["authorization"]  # it is signed

    def test_a_refusal_tells_what_was_tried(self) -> None:
        with web_server(aws) as server, pytest.raises(StoreError, match="denied access") as caught:
            list(S3Store(at_aws(server, region="eu-west-1"), "closed").list())
        assert "environment (AWS_ACCESS_KEY_ID): no" in str(caught.value)
        assert "profile default: no" in str(caught.value)
        assert "anonymous access" in str(caught.value)

    @pytest.mark.parametrize(
        ("endpoint", "region", "wanted"),
        [
            (None, None, "s3.amazonaws.com"),
            ("", None, "s3.amazonaws.com"),
            (None, "cn-north-1", "s3.cn-north-1.amazonaws.com.cn"),
            ("s3.eu-central-1.amazonaws.com", None, "s3.eu-central-1.amazonaws.com"),
            ("minio:9000", None, "minio:9000"),
        ],
    )
    def test_where_the_server_is(self, endpoint: str | None, region: str | None, wanted: str) -> None:
        assert server_of(StorageSettings(endpoint=endpoint, region=region)).endpoint == wanted

    @pytest.mark.parametrize("host", ["amazonaws.com.evil.example", "s3.amazonaws.com.evil.example", "xamazonaws.com"])
    def test_what_only_looks_like_aws_gets_no_credentials(self, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")
        with web_server(lambda _: (200, {"Content-Type": "application/xml"}, LISTING)) as server:
            listed(at_aws(server, endpoint=host))
        assert {signer(asked) for asked in server.asked} == {""}

    def test_awss_own_variable_names_a_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "https://other.example")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:4566/")
        assert server_of(StorageSettings()).endpoint == "localhost:4566"
        assert not server_of(StorageSettings()).secure
        assert server_of(StorageSettings(endpoint="minio:9000")).endpoint == "minio:9000"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://me:hunter2@x/y")
        with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL_S3") as caught:
            server_of(StorageSettings())
        assert "hunter2" not in str(caught.value)
        monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "TRUE")
        assert server_of(StorageSettings()).endpoint == s3_access.AWS


def profile(home: Path, text: str, file: str = "credentials") -> None:
    (home / ".aws" / file).write_text(text)


def keys_of(name: str, token: str = "") -> str:
    more = f"aws_session_token = {token}\n" if token else ""
    return f"[{name}]\naws_access_key_id = AK{name}\naws_secret_access_key = SK\n{more}"


class TestChain:
    """Who signs at AWS. Each is one place of the chain, and the first that has keys counts."""

    def signs(self, **others: object) -> Asked:
        with web_server(aws) as server:
            listed(at_aws(server, region="eu-central-1", **others))
        return server.asked[-1]

    def test_our_settings_come_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")
        asked = self.signs(access_key="AKOURS", secret_key="SK", session_token="our-token")
        assert (signer(asked), asked.headers["x-amz-security-token"]) == ("AKOURS", "our-token")

    def test_the_environment_with_its_session(self, monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
        profile(machine, keys_of("default"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "env-token")
        asked = self.signs()
        assert (signer(asked), asked.headers["x-amz-security-token"]) == ("AKENV", "env-token")

    def test_profiles(self, monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
        profile(machine, keys_of("default") + keys_of("work", "work-token"))
        assert signer(self.signs()) == "AKdefault"
        monkeypatch.setenv("AWS_PROFILE", "work")
        asked = self.signs()
        assert (signer(asked), asked.headers["x-amz-security-token"]) == ("AKwork", "work-token")
        assert signer(self.signs(profile="default")) == "AKdefault"

    def test_a_chosen_profile_comes_before_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, machine: Path
    ) -> None:
        profile(machine, keys_of("work"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")
        assert signer(self.signs(profile="work")) == "AKwork"

    def test_keys_in_the_other_file(self, machine: Path) -> None:
        profile(machine, keys_of("profile work").replace("AKprofile work", "AKconfig"), "config")
        assert signer(self.signs(profile="work")) == "AKconfig"

    def test_a_program_that_prints_them(self, machine: Path) -> None:
        printed = json.dumps({"Version": 1, "AccessKeyId": "AKPROGRAM", "SecretAccessKey": "SK", "SessionToken": "t"})
        (machine / "keys.json").write_text(printed)
        profile(machine, f"[default]\ncredential_process = cat {machine / 'keys.json'}\n", "config")
        assert signer(self.signs()) == "AKPROGRAM"

    @pytest.mark.parametrize("program", ["echo []", "echo {}", "echo", "false", "sleep 30", "not-there", "echo '"])
    def test_a_program_that_prints_none(self, monkeypatch: pytest.MonkeyPatch, machine: Path, program: str) -> None:
        monkeypatch.setattr(s3_credentials, "_PROCESS_WAIT_S", 0.2)
        profile(machine, f"[default]\ncredential_process = {program}\n", "config")
        with pytest.raises(StoreUnavailableError, match="profile default: no"):
            self.signs()

    def test_a_programs_keys_count_until_they_expire(self, machine: Path) -> None:
        printed = machine / "keys.json"

        def prints(key: str, **more: str) -> None:
            printed.write_text(json.dumps({"AccessKeyId": key, "SecretAccessKey": "SK", **more}))

        profile(machine, f"[default]\ncredential_process = cat {printed}\n", "config")
        with web_server(aws) as server:
            store = S3Store(at_aws(server, region="eu-central-1"), "open-data")
            prints("AKFIRST", Expiration=at(5))
            list(store.list())  # by the second ones: it looked whether there are any, and the first are about to expire
            prints("AKSECOND", Expiration=at(3600))
            list(store.list())
            prints("AKTHIRD")
            list(store.list())
        assert [signer(asked) for asked in server.asked] == ["AKFIRST", "AKSECOND", "AKSECOND"]

    def test_a_key_may_hold_a_percent_sign(self, machine: Path) -> None:
        profile(machine, "[default]\naws_access_key_id = AKOURS\naws_secret_access_key = hun%ter2\n")
        assert signer(self.signs()) == "AKOURS"

    @pytest.mark.parametrize(
        "text", ["[default]\naws_secret_access_key hunter2\n", "aws_secret_access_key = hunter2\n"]
    )
    def test_lines_of_a_torn_file_are_not_shown(self, machine: Path, text: str) -> None:
        profile(machine, text)
        found = s3_credentials.find_credentials(StorageSettings(), at_aws=True, http=PoolManager())
        assert "profile default: no (" in str(found)
        assert "hunter2" not in str(found)

    @pytest.mark.parametrize(
        "settings", ["sso_session = x", "sso_start_url = https://x", "role_arn = arn:aws:iam::1:role/x"]
    )
    def test_single_sign_on_is_told_what_to_do(self, machine: Path, settings: str) -> None:
        profile(machine, f"[profile work]\n{settings}\n", "config")
        with web_server(aws) as server, pytest.raises(StoreError, match="aws configure export-credentials"):
            list(S3Store(at_aws(server, profile="work", region="eu-west-1"), "closed").list())

    def test_a_role_of_the_instance(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with web_server(instance(KEYS)) as metadata:
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{metadata.endpoint}")
            asked = self.signs()
        assert (signer(asked), asked.headers["x-amz-security-token"]) == ("AKROLE", "role-token")
        assert all(one.target.startswith("/") for one in metadata.asked)  # not by the proxy

    def test_a_role_of_the_container(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with web_server(lambda _: (200, {}, role(KEYS))) as container:
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{container.endpoint}/keys")
            assert signer(self.signs()) == "AKROLE"

    def test_what_expires_is_renewed_and_an_outage_meanwhile_is_no_fault_of_an_image(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Other errors are kept as those of the image that was asked for, of thousands."""
        given = iter(["AKFOUND", "AK1", "", "AK2", "AK3"])

        def roles(asked: Asked) -> Answer:
            keys = KEYS
            if asked.target.endswith("/my-role"):
                if not (key := next(given)):
                    return 503, {}, b""
                keys = {**KEYS, "AccessKeyId": key}
            return instance(keys, seconds=3600 if keys["AccessKeyId"] == "AK3" else 5)(asked)

        def away(*_: object, **__: object) -> None:
            raise TimeoutError

        with web_server(roles) as metadata, web_server(aws) as server:
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{metadata.endpoint}")
            store = S3Store(at_aws(server, region="eu-central-1"), "open-data")
            list(store.list())
            with pytest.raises(StoreUnavailableError, match="credentials for S3 have expired"):
                store.read("a.jpg")
            with monkeypatch.context() as patched:
                patched.setattr("minio.credentials.providers.IamAwsProvider.retrieve", away)
                with pytest.raises(StoreUnavailableError, match="credentials for S3 have expired"):
                    store.read("a.jpg")
            for _ in range(4):
                store.read("a.jpg")
        assert [signer(asked) for asked in server.asked] == ["AK1", "AK2", "AK3", "AK3", "AK3"]

    @pytest.mark.parametrize("of", ["instance", "container"])
    @pytest.mark.parametrize("status", [503, 429])
    def test_a_service_that_is_out_at_first_is_asked_again(
        self, monkeypatch: pytest.MonkeyPatch, of: str, status: int
    ) -> None:
        """It made the store anonymous for good: a private bucket refused each image."""
        is_out = [True]

        def service(asked: Asked) -> Answer:
            if is_out[0]:
                return status, {}, b""
            return instance(KEYS)(asked) if of == "instance" else (200, {}, role(KEYS))

        with web_server(service) as metadata, web_server(aws) as server:
            if of == "instance":
                monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{metadata.endpoint}")
            else:
                monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{metadata.endpoint}/keys")
            store = S3Store(at_aws(server, region="eu-central-1"), "open-data")
            for _ in range(2):
                with pytest.raises(StoreUnavailableError, match=f"role of the {of}.*{status}.*CREDENTIALS=anonymous"):
                    store.read("a.jpg")
            assert not server.asked
            is_out[0] = False
            store.read("a.jpg")
        assert [signer(asked) for asked in server.asked] == ["AKROLE"]

    @pytest.mark.parametrize("of", ["container", "web identity", "program"])
    def test_what_is_set_up_and_cannot_be_had_is_no_anonymous_access(
        self, monkeypatch: pytest.MonkeyPatch, machine: Path, of: str
    ) -> None:
        monkeypatch.setattr(s3_access, "BACKOFF_S", 0.001)
        match of:
            case "container":
                monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{NOWHERE}/keys")
            case "web identity":
                monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(machine / "not-yet-there"))
                profile(machine, keys_of("default"))  # which is somebody else
            case _:
                profile(machine, "[default]\ncredential_process = false\n", "config")
        with web_server(aws) as server:
            store = S3Store(at_aws(server, region="eu-central-1"), "open-data")
            with pytest.raises(StoreUnavailableError, match=of.replace("program", "credential_process")):
                store.read("a.jpg")
            assert not server.asked
            assert signer(self.signs(credentials="anonymous")) == ""

    @pytest.mark.parametrize("vendor", ["Amazon EC2\n", "LENOVO\n"])
    def test_an_instance_whose_service_is_silent(
        self, monkeypatch: pytest.MonkeyPatch, machine: Path, vendor: str
    ) -> None:
        """On a machine of EC2 that is an outage; elsewhere nobody is there, for a while."""
        (machine / "vendor").write_text(vendor)
        monkeypatch.setattr(s3_credentials, "_VENDOR", machine / "vendor")
        with web_server(aws) as server:
            store = S3Store(at_aws(server, region="eu-central-1"), "open-data")
            if vendor.startswith("Amazon"):
                with pytest.raises(StoreUnavailableError, match="role of the instance"):
                    store.read("a.jpg")
            else:
                store.read("a.jpg")
            with web_server(instance(KEYS)) as metadata:
                monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{metadata.endpoint}")
                store.read("a.jpg")
                if not vendor.startswith("Amazon"):
                    later = time.monotonic() + s3_credentials._ABSENT_S
                    monkeypatch.setattr(time, "monotonic", lambda: later)
                    store.read("a.jpg")
        assert [signer(asked) for asked in server.asked] == ["", "", "AKROLE"][vendor.startswith("Amazon") * 2 :]

    def test_switched_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")
        assert signer(self.signs(credentials="anonymous")) == ""

    def test_other_servers_never_see_them_unless_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")
        with web_server(lambda _: (200, {"Content-Type": "application/xml"}, LISTING)) as server:
            here = {"endpoint": server.endpoint, "secure": False, "region": "r"}
            listed(StorageSettings.model_validate(here))
            listed(StorageSettings.model_validate({**here, "credentials": "aws"}))
        assert [signer(asked) for asked in server.asked] == ["", "AKENV"]

    def test_a_laptop_waits_once_and_shortly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An address that swallows packets, as 169.254.169.254 does where there is no instance."""
        tried = []

        def swallow(*_: object, **__: object) -> None:
            tried.append(1)
            raise TimeoutError

        monkeypatch.setattr("minio.credentials.providers.IamAwsProvider.retrieve", swallow)
        for _ in range(3):
            assert signer(self.signs()) == ""
        assert len(tried) == 1
        assert s3_credentials._METADATA_WAIT.connect_timeout <= 1

    def test_a_web_identitys_token_is_not_told(self, monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
        monkeypatch.setattr(s3_access, "BACKOFF_S", 0.001)
        (machine / "token").write_text("hunter2-token")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(machine / "token"))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/x")
        with web_server(aws) as server:  # which carries no TLS
            said = s3_access_of("s3://open-data/", Settings(_env_file=None, storage=at_aws(server).model_dump()))
        assert said is not None
        assert "environment (AWS_ACCESS_KEY_ID): no (none there); web identity: no (" in said
        assert "role of the instance" not in said
        assert "hunter2" not in said
        error = ValueError("https://sts.amazonaws.com?Action=A&WebIdentityToken=hunter2-token failed with 403")
        assert "hunter2" not in s3_credentials._reason(error)
        assert "failed with 403" in s3_credentials._reason(error)


def at(seconds: float) -> str:
    """The time in so many seconds, as AWS writes it. Keys that expire within ten are renewed."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def role(keys: dict[str, str], seconds: float = 3600) -> bytes:
    return json.dumps({"Code": "Success", **keys, "Expiration": at(seconds)}).encode()


def instance(keys: dict[str, str], seconds: float = 3600) -> Callable[[Asked], Answer]:
    """An instance's metadata service, which wants its session token."""

    def answer(asked: Asked) -> Answer:
        if asked.method == "PUT" and asked.target == "/latest/api/token":
            return 200, {}, b"session"
        if asked.headers.get("x-aws-ec2-metadata-token") != "session":
            return 401, {}, b""
        if asked.target.endswith("/security-credentials/"):
            return 200, {}, b"my-role"
        return (200, {}, role(keys, seconds)) if asked.target.endswith("/my-role") else (404, {}, b"")

    return answer


class TestProxies:
    @pytest.mark.parametrize(
        ("settings", "environment", "proxy"),
        [
            ({"endpoint": "s3.example:9000"}, {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
            ({"endpoint": "s3.example:9000", "secure": False}, {"HTTPS_PROXY": "http://p:1"}, None),
            ({"endpoint": "s3.example:9000", "secure": False}, {"http_proxy": "p:2"}, "http://p:2"),
            ({"endpoint": "s3.example:9000"}, {"ALL_PROXY": "http://p:3"}, "http://p:3"),
            ({"endpoint": "s3.example:9000"}, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example"}, None),
            ({"endpoint": "localhost:9000"}, {"HTTPS_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, None),
            ({"endpoint": "127.0.0.1:9000", "proxy": "http://p:4"}, {}, None),
            ({"endpoint": "[::1]:9000", "proxy": "http://p:4"}, {}, None),
            ({"endpoint": "s3.example", "proxy": "http://p:4"}, {"HTTPS_PROXY": "http://p:1"}, "http://p:4"),
            ({"endpoint": "s3.example", "proxy": "none"}, {"HTTPS_PROXY": "http://p:1"}, None),
            ({"endpoint": "s3.example"}, {}, None),
        ],
    )
    def test_which_proxy(
        self, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], environment: dict[str, str], proxy: str
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert proxy_of(StorageSettings.model_validate(settings)) == proxy

    @pytest.mark.parametrize("proxy", ["socks5://p:1", "ftp://p", "http://", "http://p:x"])
    def test_others_are_refused_in_words(self, proxy: str) -> None:
        with pytest.raises(SettingsError, match="STORAGE__PROXY"):
            S3Store(StorageSettings(endpoint="s3.example", proxy=proxy), "bucket")

    def test_a_login_goes_to_the_proxy_alone(self) -> None:
        with web_server(aws) as server:
            settings = at_aws(server, proxy=f"http://me:p%40ss@{server.endpoint}", region="eu-central-1")
            assert listed(settings) == ["a.jpg"]
        assert server.asked[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
        assert "me:" not in server.asked[0].target

    def test_a_certificate_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="CA_FILE"):
            S3Store(StorageSettings(endpoint="s3.example", ca_file=tmp_path / "gone.pem"), "bucket")


def test_half_a_pair_of_keys_is_no_pair() -> None:
    with pytest.raises(SettingsError, match="set both"):
        server_of(StorageSettings(access_key=SecretStr("x")))


class TestDoctor:
    def test_it_says_what_was_tried(self, machine: Path) -> None:
        profile(machine, keys_of("work"))
        with web_server(aws) as server:
            settings = Settings(_env_file=None, storage=at_aws(server).model_dump())
            said = s3_access_of("s3://open-data/x", settings)
        assert said is not None
        assert said.startswith(
            "http://s3.amazonaws.com (no STORAGE__ENDPOINT is set), region eu-central-1, by the proxy"
        )
        assert "environment (AWS_ACCESS_KEY_ID): no (none there); profile default: no" in said
        assert said.endswith("anonymous access")

    def test_a_folder_has_nothing_to_say(self, tmp_path: Path) -> None:
        assert s3_access_of(tmp_path, Settings(_env_file=None)) is None


def test_listening_goes_by_the_proxy_too() -> None:
    events = BucketEvents(StorageSettings(endpoint="s3.example", proxy="http://p:1", region="r"), "bucket")
    assert isinstance(events._pool, ProxyManager)
    assert not isinstance(BucketEvents(StorageSettings(endpoint="localhost:9", region="r"), "b")._pool, ProxyManager)
