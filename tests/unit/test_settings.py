"""Settings: every variable has a default and a description, and what is wrong with one is said in a sentence."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from gateway.errors import StartupError
from gateway.settings import (
    KlaviyoMode,
    MongoDriver,
    RateLimitStore,
    Settings,
    data_folder,
    database_name,
    load_settings,
    settings_table,
)

DEFAULTS: dict[str, Any] = {
    "mongo_uri": None,
    "mongo_database": None,
    "mongo_driver": MongoDriver.PYMONGO,
    "mongo_timeout_seconds": 5.0,
    "embedded_server": "secantusd-py",
    "dev_key": None,
    "secret_key": (),
    "klaviyo_mode": None,
    "klaviyo_api_key": None,
    "klaviyo_base_url": "https://a.klaviyo.com",
    "klaviyo_forward_events": (),
    "demo_seconds": 5.0,
    "log_level": "INFO",
    "projection_stall_seconds": 60.0,
    "tracing": None,
    "timeline_days": 90,
    "event_retention_days": None,
    "compiled_execution": True,
    "introspection": None,
    "graphiql": None,
    "allowed_origins": (),
    "max_operations_per_socket": 100,
    "max_sockets_per_key": 1000,
    "max_sockets_per_token": 20,
    "max_operations_per_token_socket": 20,
    "max_resumes_per_token": 100,
    "socket_init_seconds": 10.0,
    "checkpoint_seconds": 30.0,
    "stream_ring": 10_000,
    "stream_queue": 1000,
    "rate_limit": "60000/minute",
    "rate_limit_cost": "0",
    "rate_limit_anonymous": "600/minute",
    "rate_limit_store": RateLimitStore.MEMORY,
    "trusted_documents": None,
    "only_trusted_documents": False,
    "persisted_queries": 1000,
    "max_tokens": 5000,
    "max_document_bytes": 100_000,
    "max_depth": 20,
    "max_aliases": 200,
    "max_directives": 100,
    "max_duplicate_fields": 100,
    "max_fields": 5000,
    "max_cost": 50_000,
    "cache_bytes": 128_000_000,
    "max_body_bytes": 4_000_000,
    "max_header_bytes": 65_536,
    "max_headers": 100,
    "header_seconds": 10.0,
    "body_seconds": 30.0,
    "min_bytes_per_second": 1000,
    "stalled_seconds": 30.0,
    "keep_alive_seconds": 75.0,
    "max_connections": 10_000,
    "max_connections_per_address": 0,
    "max_batch_events": 1000,
    "max_event_name_length": 200,
    "max_event_names": 2000,
    "max_page_event_names": 500,
    "max_metadata_keys": 100,
    "max_metadata_key_length": 100,
    "max_metadata_bytes": 32_768,
    "max_metadata_depth": 8,
}


def test_every_default() -> None:
    assert load_settings().model_dump() == DEFAULTS
    assert set(Settings.model_fields) == set(DEFAULTS)


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.timeline_days = 1  # type: ignore[misc]
    assert settings.timeline_days == 90


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("mongo_database", "my-db_1", "my-db_1"),
        ("mongo_driver", "motor", MongoDriver.MOTOR),
        ("mongo_timeout_seconds", "0.25", 0.25),
        ("mongo_timeout_seconds", "60", 60.0),
        ("embedded_server", "/opt/server", "/opt/server"),
        ("dev_key", "k" * 8, "k" * 8),
        ("log_level", "DEBUG", "DEBUG"),
        ("introspection", "true", True),
        ("graphiql", "false", False),
        ("tracing", "http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        ("timeline_days", "1", 1),
        ("timeline_days", "36500", 36500),
        ("secret_key", "s" * 32, (SecretStr("s" * 32),)),
        ("secret_key", "s" * 32 + ", " + "t" * 32, (SecretStr("s" * 32), SecretStr("t" * 32))),
        ("secret_key", f'["{"s" * 31},", "{"t" * 32}"]', (SecretStr("s" * 31 + ","), SecretStr("t" * 32))),
        ("secret_key", "\u00e4" * 16, (SecretStr("\u00e4" * 16),)),
        ("klaviyo_mode", "log", KlaviyoMode.LOG),
        ("klaviyo_api_key", "pk_12345678", SecretStr("pk_12345678")),
        ("klaviyo_forward_events", "placed order, *", ("placed order", "*")),
        ("klaviyo_forward_events", '["a, b"]', ("a, b",)),
        ("rate_limit", "0", "0"),
        ("rate_limit", "5 per 2 hours", "5 per 2 hours"),
        ("rate_limit_store", "mongodb", RateLimitStore.MONGODB),
        ("trusted_documents", "manifest.json", Path("manifest.json")),
        ("only_trusted_documents", "true", True),
        ("max_body_bytes", "1000", 1000),
        ("max_metadata_depth", "50", 50),
    ],
)
def test_a_variable_is_read(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any) -> None:
    monkeypatch.setenv(f"GATEWAY_{name.upper()}", text)
    assert load_settings().model_dump() == {**DEFAULTS, name: value}


def test_a_uri_is_kept_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_MONGO_URI", "mongodb://a:27017,b:27018/?replicaSet=rs0")
    assert str(load_settings().mongo_uri) == "mongodb://a:27017,b:27018/?replicaSet=rs0"


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_an_empty_variable_is_the_default(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"GATEWAY_{name.upper()}", "")
    assert load_settings().model_dump() == DEFAULTS


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mongo_uri", "localhost:27017"),
        ("mongo_uri", "https://example.com"),
        ("mongo_database", "a.b"),
        ("mongo_database", "a b"),
        ("mongo_database", "a\n"),
        ("mongo_database", "d" * 39),
        ("mongo_driver", "mongomock"),
        ("mongo_timeout_seconds", "0"),
        ("mongo_timeout_seconds", "60.5"),
        ("mongo_timeout_seconds", "inf"),
        ("mongo_timeout_seconds", "nan"),
        ("mongo_timeout_seconds", "soon"),
        ("dev_key", "k" * 7),
        ("dev_key", "k" * 201),
        ("secret_key", "s" * 31),
        ("secret_key", "s" * 32 + ",t"),
        ("secret_key", "s" * 32 + ","),
        ("secret_key", '["short"]'),
        ("secret_key", f'["{"s" * 32}", 1]'),
        ("secret_key", "[" + "s" * 32),
        ("klaviyo_mode", "loud"),
        ("klaviyo_api_key", "pk_1"),
        ("klaviyo_api_key", "pk_1234567 8"),
        ("klaviyo_base_url", "a.klaviyo.com"),
        ("log_level", "info"),
        ("log_level", "INFO\n"),
        ("introspection", "maybe"),
        ("tracing", "127.0.0.1:4318"),
        ("tracing", "grpc://collector:4317"),
        ("tracing", "http:///v1/traces"),
        ("timeline_days", "0"),
        ("timeline_days", "36501"),
        ("timeline_days", "1.5"),
        ("timeline_days", "ninety"),
        ("rate_limit", "0/minute"),
        ("rate_limit", "60000"),
        ("rate_limit", "many/minute"),
        ("rate_limit", "1/fortnight"),
        ("rate_limit", "1/second;60/minute"),
        ("rate_limit", "1000000000001/year"),
        ("rate_limit_cost", "-1/minute"),
        ("rate_limit_store", "redis"),
        ("max_body_bytes", "999"),
        ("max_body_bytes", "100000001"),
        ("max_batch_events", "0"),
        ("max_batch_events", "1001"),
        ("max_event_name_length", "1001"),
        ("max_event_names", "0"),
        ("max_metadata_keys", "10001"),
        ("max_metadata_key_length", "0"),
        ("max_metadata_bytes", "99"),
        ("max_metadata_depth", "51"),
    ],
)
def test_a_malformed_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"GATEWAY_{name.upper()}", text)
    with pytest.raises(StartupError, match=f"^GATEWAY_{name.upper()} is invalid: .+\\.$") as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_a_malformed_uri_does_not_tell_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_MONGO_URI", "postgres://me:hunter2@host/")
    with pytest.raises(StartupError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["hunter2", "hunter2" * 5 + ",hunter2", "[hunter2" * 5, '["hunter2"]'])
def test_a_secret_is_never_told(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GATEWAY_SECRET_KEY", text)
    with pytest.raises(StartupError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    with pytest.raises((ValidationError, ValueError)) as inner:
        Settings()
    assert "hunter2" not in str(inner.value)
    monkeypatch.setenv("GATEWAY_SECRET_KEY", "hunter2" * 5)
    settings = load_settings()
    assert settings.secret_key[0].get_secret_value() == "hunter2" * 5
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GATEWAY_MONGO_URL", "GATEWAY_MONGO_URI"),
        ("GATEWAY_MONGODB_URI", "GATEWAY_MONGO_URI"),
        ("GATEWAY_TIMELINE_DAY", "GATEWAY_TIMELINE_DAYS"),
        ("GATEWAY_LOGLEVEL", "GATEWAY_LOG_LEVEL"),
        ("GATEWAY_MAX_METADATA_KEY", "GATEWAY_MAX_METADATA_KEYS"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(StartupError) as caught:
        load_settings()
    assert str(caught.value) == f"{name} is not a setting: did you mean {meant}?"


def test_an_unknown_variable_unlike_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_ZZZZZZZZZZZZZZZZZZZZ", "1")
    with pytest.raises(StartupError) as caught:
        load_settings()
    assert (
        str(caught.value) == "GATEWAY_ZZZZZZZZZZZZZZZZZZZZ is not a setting: unset it, or see the table in the README."
    )


def test_everything_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATEWAY_MONGO_URL", "GATEWAY_TIMELINE_DAYS", "GATEWAY_LOG_LEVEL"):
        monkeypatch.setenv(name, "0")
    with pytest.raises(StartupError) as caught:
        load_settings()
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == ["GATEWAY_MONGO_URL", "GATEWAY_LOG_LEVEL", "GATEWAY_TIMELINE_DAYS"]


def test_an_override_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TIMELINE_DAYS", "30")
    assert load_settings(timeline_days=7).timeline_days == 7


def test_an_override_that_is_no_setting_is_refused() -> None:
    with pytest.raises(StartupError, match=r"^GATEWAY_COLOUR is invalid"):
        load_settings(colour="red")


@pytest.mark.parametrize(
    ("settings", "dev", "name"),
    [
        ({}, False, "gateway"),
        ({}, True, "gateway"),
        ({"mongo_uri": "mongodb://h/"}, False, "gateway"),
        ({"mongo_uri": "mongodb://h/"}, True, "gateway_dev"),
        ({"mongo_database": "mine"}, False, "mine"),
        ({"mongo_uri": "mongodb://h/", "mongo_database": "mine"}, True, "mine"),
    ],
)
def test_the_name_of_the_database(settings: dict[str, str], dev: bool, name: str) -> None:
    assert database_name(Settings(**settings), dev=dev) == name  # type: ignore[arg-type]


def test_the_table_has_a_row_for_each_field() -> None:
    header, line, *rows = settings_table().splitlines()
    assert header.startswith("| variable | default |")
    assert set(line) == {"|", "-", " "}
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == [f"`GATEWAY_{name.upper()}`" for name in DEFAULTS]
    for (_, default, text), (name, value) in zip(cells, DEFAULTS.items(), strict=True):
        assert default == ("" if value is None else f"`{value}`"), name
        assert re.fullmatch(r"[A-Z`].*\.", text), f"{name} needs a description in sentences"


def test_a_data_folder_is_made_private(tmp_path: Path) -> None:
    made = data_folder(tmp_path / "a" / "b")
    assert made == (tmp_path / "a" / "b").resolve()
    assert made.stat().st_mode & 0o777 == 0o700
    assert data_folder(made) == made


def test_a_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="choose another with --data"):
        data_folder(tmp_path / "file" / "below")
    with pytest.raises(StartupError, match="choose another with --data"):
        data_folder(tmp_path / "file")


def test_live_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KLAVIYO_MODE", "live")
    with pytest.raises(StartupError) as refused:
        load_settings()
    assert str(refused.value) == "GATEWAY_KLAVIYO_MODE=live needs GATEWAY_KLAVIYO_API_KEY: set both."
    monkeypatch.setenv("GATEWAY_KLAVIYO_API_KEY", "pk_12345678")
    assert load_settings().klaviyo_mode is KlaviyoMode.LIVE
