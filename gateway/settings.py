"""All settings, read from environment variables here and nowhere else."""

import difflib
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
from limits import parse_many
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from gateway.errors import StartupError
from gateway.urls import parse_http_url

PREFIX = "GATEWAY_"
_SHORTEST_SECRET = 32
_PRIVATE, _GROUP_AND_WORLD = 0o700, 0o077
_OUR_FILES = frozenset({"lock", "database", "database.json", "dev_key", "secret_key"})


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode("utf-8", "surrogateescape")) < _SHORTEST_SECRET:
        raise PydanticCustomError(
            "too_short", "each secret must have at least 32 bytes ('openssl rand -base64 48' makes one)"
        )
    return secret


class MongoDriver(StrEnum):
    MOTOR = "motor"
    PYMONGO = "pymongo"


class RateLimitStore(StrEnum):
    MEMORY = "memory"
    MONGODB = "mongodb"


class KlaviyoMode(StrEnum):
    """What happens with deliveries to Klaviyo: nothing, a log line, or a request."""

    OFF = "OFF"
    LOG = "LOG"
    LIVE = "LIVE"


# What 'gateway dev' sets where nothing else does.
DEVELOPMENT_DEFAULTS = {"introspection": True, "graphiql": True, "klaviyo_mode": KlaviyoMode.LOG}
NO_LIMIT = "0"
_LARGEST_RATE = 10**12


def _check_rate(text: str) -> str:
    try:
        rates = [] if text == NO_LIMIT else parse_many(text)
    except ValueError:
        rates = []
    if text != NO_LIMIT and not (len(rates) == 1 and 1 <= rates[0].amount <= _LARGEST_RATE):
        raise PydanticCustomError("rate", "it must be a rate, such as 600/minute or 1000/2hours, or 0 for no limit")
    return text


Rate = Annotated[str, AfterValidator(_check_rate)]


def _check_http_url(text: str) -> str:
    if parse_http_url(text) is None:
        raise PydanticCustomError("http_url", "it must be a URL such as https://api.example.com")
    return text


HttpUrlText = Annotated[str, AfterValidator(_check_http_url)]


class Settings(BaseSettings):
    """All settings; each field is the variable `GATEWAY_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    mongo_uri: str | None = Field(
        None,
        pattern=r"^mongodb(\+srv)?://.+",
        description="A MongoDB replica set or sharded cluster. Unset: the embedded server in the data folder.",
    )
    mongo_database: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{1,38}$",
        description="The database's name. Unset: `gateway`, and `gateway_dev` for `gateway dev` on a server that is not its own.",
    )
    mongo_driver: MongoDriver = Field(
        MongoDriver.PYMONGO,
        description="The client library: `pymongo` (PyMongo's asynchronous client) or `motor` (its predecessor).",
    )
    mongo_timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="The total time that one call may wait before it fails with UNAVAILABLE."
    )
    embedded_server: str = Field(
        "secantusd-py",
        min_length=1,
        description="The executable of the embedded server: a path, or a name on the PATH or beside Python.",
    )
    dev_key: str | None = Field(
        None,
        min_length=8,
        max_length=200,
        description="The API key of `gateway dev`. Unset: it is generated once and stored in the data folder.",
    )
    secret_key: Annotated[tuple[Annotated[SecretStr, AfterValidator(_long_enough)], ...], NoDecode] = Field(
        (),
        description="The secret that signs tokens, and encrypts cursors and API keys of other systems: a random text of at least 32 bytes, or several, separated by commas or as a JSON list. The first one signs and encrypts; all are accepted. Unset: no tokens, and cursors use a secret in the database; `gateway dev` stores one in the data folder.",
    )
    klaviyo_mode: KlaviyoMode | None = Field(
        None,
        description="The mode of the default (oldest) workspace: `off`, `log` (deliveries are only written to the log) or `live`. A connection made with `connectKlaviyo` takes precedence. Unset: `log` in `gateway dev`, `off` in `gateway serve`.",
    )
    klaviyo_api_key: SecretStr | None = Field(
        None, min_length=8, description="The private API key of the default workspace's Klaviyo account, for `live`."
    )
    klaviyo_base_url: HttpUrlText = Field("https://a.klaviyo.com", description="The URL of Klaviyo's API.")
    klaviyo_forward_events: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="The names of tracked events to forward to Klaviyo, separated by commas or as a JSON list; `*`: all. For the default workspace.",
    )
    demo_seconds: float = Field(
        5.0,
        ge=0,
        le=3600,
        description="The interval at which `gateway dev` adds a demo event, so that a subscription shows something; 0: never.",
    )
    log_level: str = Field(
        "INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$", description="The lowest level of log lines that are written."
    )
    projection_stall_seconds: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="The time after which `/readyz` responds 503 and an error is logged if the totals of definitions or the segments do not advance while changes wait; ten times as long during a rebuild. 0: never.",
    )
    tracing: HttpUrlText | None = Field(
        None,
        description="The URL of an OpenTelemetry collector (OTLP over HTTP), such as `http://127.0.0.1:4318`. Unset: no tracing.",
    )
    timeline_days: int = Field(
        90, ge=1, le=36500, description="How many days `Contact.events` shows if its filter has no times."
    )
    event_retention_days: int | None = Field(
        None,
        ge=1,
        le=36500,
        description="How many days events are stored. Their summaries, totals, values and idempotency keys are stored forever. Unset: forever.",
    )
    compiled_execution: bool = Field(
        True,
        description="Whether operations are compiled to Python. false: graphql-core executes them, with the same results but much slower.",
    )
    introspection: bool | None = Field(
        None,
        description="Whether introspection is allowed, and errors suggest similar names. Unset: on in `gateway dev`, off in `gateway serve`.",
    )
    graphiql: bool | None = Field(
        None, description="Whether `/` shows GraphiQL. Unset: on in `gateway dev`, off in `gateway serve`."
    )
    allowed_origins: tuple[str, ...] = Field(
        (),
        description='The origins whose pages may open websockets and use keys with the scope BROWSER, as a JSON list such as `["https://app.example.com"]`. Pages of the gateway\'s own origin always may.',
    )
    max_operations_per_socket: int = Field(
        100, ge=1, le=10_000, description="The most active operations of one socket."
    )
    max_sockets_per_key: int = Field(
        1000, ge=1, le=1_000_000, description="The most open sockets of one API key in one process."
    )
    max_sockets_per_token: int = Field(
        20, ge=1, le=1_000_000, description="The most open sockets of one contact (with tokens) in one process."
    )
    max_operations_per_token_socket: int = Field(
        20, ge=1, le=10_000, description="The most active operations of one socket of a contact token."
    )
    max_resumes_per_token: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="The most subscriptions of one contact (with tokens) that catch up from old cursors at the same time in one process.",
    )
    socket_init_seconds: float = Field(10.0, gt=0, le=600, description="The time in which a socket must authenticate.")
    checkpoint_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="The interval of checkpoints, which give subscriptions a cursor to resume from.",
    )
    stream_ring: int = Field(
        10_000,
        ge=100,
        le=1_000_000,
        description="How many of the newest changes a process holds in memory for subscribers that reconnect.",
    )
    stream_queue: int = Field(
        1000,
        ge=10,
        le=100_000,
        description="How many changes may wait for one subscriber before it is closed as too slow.",
    )
    rate_limit: Rate = Field(
        "60000/minute",
        description="The rate limit of one API key, in requests and operations on sockets, such as `1000/hour`; `0`: no limit.",
    )
    rate_limit_cost: Rate = Field(
        NO_LIMIT,
        description="The rate limit of one API key, in the cost of its operations (see `GATEWAY_MAX_COST`); `0`: no limit.",
    )
    rate_limit_anonymous: Rate = Field(
        "600/minute",
        description="The rate limit of one address without a valid key, in requests; `0`: no limit. A socket counts until it is authenticated, and a key that is new to the process until it was looked up.",
    )
    rate_limit_store: RateLimitStore = Field(
        RateLimitStore.MEMORY,
        description="Where rate limits are counted: `memory` (each process on its own) or `mongodb` (all processes together).",
    )
    trusted_documents: Path | None = Field(
        None,
        description="A manifest of trusted documents that clients name by id: a JSON object of texts by id, or Apollo's format. It is read and checked at startup.",
    )
    only_trusted_documents: bool = Field(False, description="Whether all documents outside the manifest are refused.")
    persisted_queries: int = Field(
        1000,
        ge=0,
        le=1_000_000,
        description="How many persisted documents, which clients register by hash, each process holds. One of more than 16,000 characters counts as several. 0: none.",
    )
    max_tokens: int = Field(5000, ge=100, le=1_000_000, description="The most tokens of a GraphQL document.")
    max_document_bytes: int = Field(
        100_000,
        ge=1_000,
        le=100_000_000,
        description="The longest GraphQL document, over HTTP, on sockets and as a persisted document.",
    )
    max_depth: int = Field(20, ge=1, le=100, description="The deepest nesting of fields in an operation.")
    max_aliases: int = Field(
        200, ge=0, le=100_000, description="The most aliases of an operation, after its fragments are expanded."
    )
    max_directives: int = Field(
        100, ge=0, le=100_000, description="The most directives of an operation, after its fragments are expanded."
    )
    max_duplicate_fields: int = Field(
        100, ge=0, le=100_000, description="The most repetitions of fields in the same selection set of an operation."
    )
    max_fields: int = Field(
        5000, ge=1, le=1_000_000, description="The most fields of a document, after its fragments are expanded."
    )
    max_cost: int = Field(
        50_000,
        ge=1,
        le=100_000_000,
        description="The highest cost of an operation, in rows: each list counts its size times its parent rows; filters, totals and searches count what they scan (`@listSize` and `@cost` in the schema).",
    )
    cache_bytes: int = Field(
        128_000_000,
        ge=1_000_000,
        le=100_000_000_000,
        description="The approximate memory of all caches of one process: documents with plans, keys, rate limit counters, templates and others. The least recently used entries are dropped first.",
    )
    max_body_bytes: int = Field(4_000_000, ge=1_000, le=100_000_000, description="The largest request body.")
    max_header_bytes: int = Field(
        65_536,
        ge=1_024,
        le=1_048_576,
        description="The most bytes of a request's URL and headers. The lines of a websocket handshake may have 8192 bytes.",
    )
    max_headers: int = Field(100, ge=10, le=10_000, description="The most headers of a request.")
    header_seconds: float = Field(
        10.0,
        ge=0,
        le=600,
        description="The time in which the headers of a request, and the first request of a connection, must arrive; `0`: no limit.",
    )
    body_seconds: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="The time in which the body of a request must arrive, plus what `GATEWAY_MIN_BYTES_PER_SECOND` adds; `0`: no limit.",
    )
    min_bytes_per_second: int = Field(
        1000,
        ge=0,
        le=1_000_000_000,
        description="The lowest transfer rate. Every this many bytes of a body add one second to its time limit, and a peer must read responses at least this fast. `0`: bodies get no extra time, and peers may read at any rate above zero.",
    )
    stalled_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="How long a peer may read slower than the lowest transfer rate, over HTTP or a socket, before its connection is closed.",
    )
    keep_alive_seconds: float = Field(
        75.0,
        gt=0,
        le=3600,
        description="How long a connection may be idle after a response. Set it longer than your proxy's limit.",
    )
    max_connections: int = Field(
        10_000,
        ge=0,
        le=1_000_000,
        description="The most connections of one process, including sockets; others get 503. Fewer if the process may not open as many files. `0`: no limit.",
    )
    max_connections_per_address: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="The most connections of one process from one address (for IPv6: from one /64); `0`: no limit. Leave it at 0 behind a proxy, because all connections have its address.",
    )
    max_batch_events: int = Field(1000, ge=1, le=1000, description="The most events of one `trackEvents`.")
    max_event_name_length: int = Field(200, ge=1, le=1000, description="The most characters of an event name.")
    max_event_names: int = Field(
        2000, ge=1, le=100_000, description="The most active (not archived) event names of a workspace."
    )
    max_page_event_names: int = Field(
        500,
        ge=0,
        le=100_000,
        description="How many of these names pages may add (with BROWSER keys and contact tokens), so that visitors cannot use them up. A name that was described with `describeEvent` no longer counts.",
    )
    max_metadata_keys: int = Field(100, ge=1, le=10_000, description="The most metadata keys of one event.")
    max_metadata_key_length: int = Field(100, ge=1, le=1000, description="The most characters of a metadata key.")
    max_metadata_bytes: int = Field(
        32_768,
        ge=100,
        le=4_000_000,
        description="The most bytes of one event's metadata as JSON. Custom attributes have the same limit.",
    )
    max_metadata_depth: int = Field(8, ge=1, le=50, description="The deepest nesting of objects and lists in metadata.")

    @field_validator("secret_key", "klaviyo_forward_events", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _listed(value) if isinstance(value, str) else value

    @field_validator("klaviyo_mode", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("klaviyo_api_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        text = "" if value is None else value.get_secret_value()
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise PydanticCustomError("key", "it must be a private key of Klaviyo, such as pk_...")
        return value


def load_settings(**overrides: Any) -> Settings:
    """Load the settings from the environment. Raises StartupError that lists every invalid variable."""
    problems = [_unknown(name) for name in sorted(os.environ) if name.startswith(PREFIX) and not _is_setting(name)]
    try:
        settings = Settings(**overrides)
    except SettingsError as error:
        problems.append(f"A setting must be JSON: {error}.")
    except ValidationError as error:
        problems += [_malformed(str(item["loc"][0]), item["msg"]) for item in error.errors()]
    else:
        if settings.klaviyo_mode is KlaviyoMode.LIVE and settings.klaviyo_api_key is None:
            problems.append("GATEWAY_KLAVIYO_MODE=live needs GATEWAY_KLAVIYO_API_KEY: set both.")
    if problems:
        raise StartupError("\n".join(problems))
    return settings


def database_name(settings: Settings, *, dev: bool = False) -> str:
    """Return the database's name; `gateway dev` on a configured server has its own."""
    return settings.mongo_database or ("gateway_dev" if dev and settings.mongo_uri else "gateway")


def settings_table() -> str:
    rows = ["| variable | default | what it does |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def data_folder(path: Path) -> Path:
    """Return the data folder; created if missing, and private to its owner. Raises StartupError."""
    try:
        path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        if path.stat().st_mode & _GROUP_AND_WORLD:
            _check_ours(path)
            path.chmod(_PRIVATE)
    except OSError as error:
        raise StartupError(
            f"The data folder {path} cannot be made private ({error.strerror}): choose another with --data."
        ) from error
    return path.resolve()


def _check_ours(path: Path) -> None:
    """Check that the folder is empty or holds our data before its mode is changed. Raises StartupError."""
    entries = list(path.iterdir())
    if entries and not any(entry.name in _OUR_FILES for entry in entries):
        raise StartupError(
            f"The data folder {path} is readable by others and has files of another program: "
            "run 'chmod 700' on it, or choose another with --data."
        )
    if any(entry.lstat().st_uid != os.geteuid() for entry in entries):
        raise StartupError(
            f"The data folder {path} is readable by others and has files of another user: choose another with --data."
        )


def _listed(text: str) -> object:
    if not text.lstrip().startswith("["):
        return [secret.strip() for secret in text.split(",")]
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise PydanticCustomError("not_json", "it begins like a JSON list but is not valid JSON") from None


def _is_setting(name: str) -> bool:
    return name.removeprefix(PREFIX).lower() in Settings.model_fields


def _unknown(name: str) -> str:
    names = [field.upper() for field in Settings.model_fields]
    close = difflib.get_close_matches(name.removeprefix(PREFIX), names, n=1)
    return f"{name} is not a setting" + (
        f": did you mean {PREFIX}{close[0]}?" if close else ": unset it, or see the table in the README."
    )


def _malformed(field: str, message: str) -> str:
    return f"{PREFIX}{field.upper()} is invalid: {message}."
