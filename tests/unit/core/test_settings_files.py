"""Which files settings are read from, and that a file of somebody else's never learns a credential."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fakes.environments import without_settings
from pydantic import SecretStr

from searchanything.core.errors import SettingsError
from searchanything.core.settings import ENV_PREFIX, MilvusSettings, check_token, load_settings
from searchanything.stores.milvus_opening import open_milvus

SECRET = "hunter2-hunter2"
STEERING = {
    "MILVUS__TOKEN": [
        ("MILVUS__URI", "https://stranger.example:19530"),
        ("MILVUS__CA_FILE", "ca.pem"),
        ("MILVUS__ALLOW_UNENCRYPTED", "true"),
    ],
    "STORAGE__SECRET_KEY": [
        ("STORAGE__ENDPOINT", "stranger.example:9000"),
        ("STORAGE__SECURE", "false"),
        ("STORAGE__PROXY", "http://stranger.example:3128"),
        ("STORAGE__CA_FILE", "ca.pem"),
    ],
    "STORAGE__SESSION_TOKEN": [("STORAGE__ENDPOINT", "stranger.example:9000")],
    "STORAGE__ACCESS_KEY": [("STORAGE__ENDPOINT", "stranger.example:9000")],
}
PAIRS = [(credential, *pair) for credential, pairs in STEERING.items() for pair in pairs]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without settings, in a folder of their own."""
    without_settings(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path


def own(home: Path, text: str, mode: int = 0o600) -> Path:
    path = home / "config" / "searchanything" / "settings.env"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def line(name: str, value: str) -> str:
    return f"{ENV_PREFIX}{name}={value}\n"


def ask_for(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    Path("asked.env").write_text(text)
    monkeypatch.setenv("SEARCHANYTHING_ENV_FILE", "asked.env")


class TestPlaces:
    @pytest.mark.parametrize(("credential", "steering", "value"), PAIRS)
    def test_a_dotenv_of_the_working_directory_steers_nothing(
        self, monkeypatch: pytest.MonkeyPatch, credential: str, steering: str, value: str
    ) -> None:
        before = load_settings()
        Path(".env").write_text(line(steering, value) + line("MODELS__PRESET", "paper"))
        monkeypatch.setenv(ENV_PREFIX + credential, SECRET)
        settings = load_settings()
        assert settings.model_copy(update={"storage": before.storage, "milvus": before.milvus}) == before
        assert (settings.milvus.uri, settings.storage.endpoint) == (before.milvus.uri, before.storage.endpoint)

    def test_and_that_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        Path(".env").write_text("searchanything_models__preset=small\n")
        with caplog.at_level(logging.WARNING):
            load_settings()
            load_settings()
        assert [record.getMessage().partition(" is not read")[0] for record in caplog.records] == [
            str(Path(".env").absolute())
        ]

    def test_a_dotenv_of_another_program_is_no_business_of_ours(self, caplog: pytest.LogCaptureFixture) -> None:
        Path(".env").write_text("DATABASE_URL=postgres://localhost\n")
        load_settings()
        assert not caplog.records

    def test_the_environment_wins_over_the_asked_file_and_that_over_the_own(
        self, monkeypatch: pytest.MonkeyPatch, home: Path
    ) -> None:
        own(home, line("SERVICE__PREFECT_PORT", "81") + line("MODELS__PRESET", "small") + line("MODELS__DEVICE", "cpu"))
        ask_for(monkeypatch, line("SERVICE__PREFECT_PORT", "82") + line("MODELS__PRESET", "pico") + "OTHER=1\n")
        monkeypatch.setenv("SEARCHANYTHING_SERVICE__PREFECT_PORT", "83")
        settings = load_settings()
        assert (settings.service.prefect_port, settings.models.preset, settings.models.device) == (83, "pico", "cpu")

    def test_a_file_that_is_asked_for_must_be_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SEARCHANYTHING_ENV_FILE", "gone.env")
        with pytest.raises(SettingsError, match=r"gone\.env.*no such file"):
            load_settings()

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_an_own_file_that_others_may_write_is_refused(self, home: Path, mode: int) -> None:
        own(home, line("MODELS__PRESET", "small"), mode)
        with pytest.raises(SettingsError, match="chmod 600"):
            load_settings()

    def test_a_file_that_is_no_text_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("asked.env").write_bytes(b"SEARCHANYTHING_STORAGE__SECRET_KEY=\xff\xfe" + SECRET.encode())
        monkeypatch.setenv("SEARCHANYTHING_ENV_FILE", "asked.env")
        with pytest.raises(SettingsError, match=r"asked\.env") as caught:
            load_settings()
        assert SECRET not in str(caught.value)


class TestTrust:
    @pytest.mark.parametrize("place", ["environment", "own"])
    @pytest.mark.parametrize(("credential", "steering", "value"), PAIRS)
    def test_no_credential_goes_where_an_asked_file_says(
        self, monkeypatch: pytest.MonkeyPatch, home: Path, credential: str, steering: str, value: str, place: str
    ) -> None:
        ask_for(monkeypatch, line(steering, value))
        if place == "environment":
            monkeypatch.setenv(ENV_PREFIX + credential, SECRET)
        else:
            own(home, line(credential, SECRET))
        with pytest.raises(SettingsError, match=rf"{steering} comes from asked\.env") as caught:
            load_settings()
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(("credential", "steering", "value"), PAIRS)
    def test_one_place_may_say_both(
        self, monkeypatch: pytest.MonkeyPatch, credential: str, steering: str, value: str
    ) -> None:
        ask_for(monkeypatch, line(steering, value) + line(credential, SECRET))
        load_settings()

    @pytest.mark.parametrize(("credential", "steering", "value"), PAIRS)
    def test_the_environment_may_steer_what_files_hold(
        self, monkeypatch: pytest.MonkeyPatch, home: Path, credential: str, steering: str, value: str
    ) -> None:
        own(home, line(credential, SECRET))
        monkeypatch.setenv(ENV_PREFIX + steering, value)
        load_settings()

    def test_aws_credentials_of_this_machine_go_nowhere_an_asked_file_says(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ask_for(monkeypatch, line("STORAGE__ENDPOINT", "stranger:9000") + line("STORAGE__CREDENTIALS", "aws"))
        with pytest.raises(SettingsError, match="AWS chain"):
            load_settings()

    @pytest.mark.parametrize("opened", [("STORAGE__SECURE", "false"), ("STORAGE__CA_FILE", "theirs.pem")])
    @pytest.mark.parametrize("endpoint", [None, "s3.amazonaws.com"])
    def test_no_asked_file_opens_the_connection_that_they_take_by_default(
        self, monkeypatch: pytest.MonkeyPatch, opened: tuple[str, str], endpoint: str | None
    ) -> None:
        if endpoint is not None:
            monkeypatch.setenv(f"{ENV_PREFIX}STORAGE__ENDPOINT", endpoint)
        ask_for(monkeypatch, line(*opened))
        with pytest.raises(SettingsError, match="AWS chain"):
            load_settings()

    @pytest.mark.parametrize(
        "harmless",
        [
            line("STORAGE__SECURE", "true"),
            line("STORAGE__PROXY", "http://proxy:3128"),  # of TLS it sees nothing
            line("STORAGE__SECURE", "false") + line("STORAGE__CREDENTIALS", "anonymous"),
            line("STORAGE__SECURE", "false") + line("STORAGE__ENDPOINT", "localhost:9000"),
        ],
    )
    def test_what_tells_nobody_anything_passes(self, monkeypatch: pytest.MonkeyPatch, harmless: str) -> None:
        ask_for(monkeypatch, harmless)
        load_settings()


class TestTokens:
    @pytest.mark.parametrize("uri", ["http://milvus.example:19530", "HTTP://10.0.0.7", "http://[fe80::1]:19530"])
    def test_a_token_travels_to_another_machine_over_tls_alone(self, uri: str) -> None:
        with pytest.raises(SettingsError, match="ALLOW_UNENCRYPTED"):
            open_milvus(MilvusSettings(uri=uri, token=SecretStr(SECRET)))

    def test_credentials_within_the_address_are_a_token(self) -> None:
        with pytest.raises(SettingsError, match="unencrypted") as caught:
            check_token(MilvusSettings(uri=f"http://root:{SECRET}@milvus.example:19530"))
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        "allowed",
        [
            MilvusSettings(uri="http://milvus.example:19530"),
            MilvusSettings(uri="https://milvus.example:19530", token=SecretStr(SECRET)),
            MilvusSettings(uri="http://127.0.0.1:19530", token=SecretStr(SECRET)),
            MilvusSettings(uri="http://localhost:19530", token=SecretStr(SECRET)),
            MilvusSettings(uri="http://[::1]:19530", token=SecretStr(SECRET)),
            MilvusSettings(uri="index.db", token=SecretStr(SECRET)),
            MilvusSettings(uri="http://milvus:19530", token=SecretStr(SECRET), allow_unencrypted=True),
        ],
    )
    def test_what_is_safe_or_allowed_passes(self, allowed: MilvusSettings) -> None:
        check_token(allowed)
