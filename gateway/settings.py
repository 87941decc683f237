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
    """The client library for MongoDB."""

    MOTOR = "motor"
    PYMONGO = "pymongo"


class RateLimitStore(StrEnum):
    """Where the counters of rate limits are stored."""

    MEMORY = "memory"
    MONGODB = "mongodb"


class KlaviyoMode(StrEnum):
    """What happens with deliveries to Klaviyo: nothing, a log line, or a request."""

    OFF = "OFF"
    LOG = "LOG"
    LIVE = "LIVE"


NO_LIMIT = "0"
_LARGEST_RATE = 10**12


def _check_rate(text: str) -> str:
    try:
        rates = [] if text == NO_LIMIT else parse_many(text)
    except ValueError:
        rates = []
    if text != NO_LIMIT and not (len(rates) == 1 and 1 <= rates[0].amount <= _LARGEST_RATE):
        raise PydanticCustomError("rate", "it must be one rate, such as 600/minute or 1000/2hours, or 0 for none")
    return text


Rate = Annotated[str, AfterValidator(_check_rate)]


def _check_http_url(text: str) -> str:
    if parse_http_url(text) is None:
        raise PydanticCustomError("http_url", "it must be an address such as https://api.example.com")
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
        description="`pymongo` for PyMongo's own asynchronous client, or `motor` for its predecessor.",
    )
    mongo_timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="How long one call waits in all, whatever for, before it answers UNAVAILABLE."
    )
    embedded_server: str = Field(
        "secantusd-py",
        min_length=1,
        description="The embedded server's executable: a name on the PATH or beside Python, or a path.",
    )
    dev_key: str | None = Field(
        None,
        min_length=8,
        max_length=200,
        description="The key of `gateway dev`. Unset: generated once and kept in the data folder.",
    )
    secret_key: Annotated[tuple[Annotated[SecretStr, AfterValidator(_long_enough)], ...], NoDecode] = Field(
        (),
        description="What signs tokens of contacts and admins, and encrypts cursors and keys of other systems: a random text of at least 32 bytes, or several with commas between or as a JSON list. The first one signs and encrypts, all are accepted. Unset: no tokens, and cursors are encrypted under a secret that the database keeps; `gateway dev` keeps one in the data folder.",
    )
    klaviyo_mode: KlaviyoMode | None = Field(
        None,
        description="The sync of the default workspace (the oldest one) with Klaviyo: `off`, `log` (what would be sent goes to the log), or `live`. A workspace that was connected by `connectKlaviyo` goes by that. Unset: `log` in `gateway dev`, `off` in `gateway serve`.",
    )
    klaviyo_api_key: SecretStr | None = Field(
        None, min_length=8, description="The private API key of the default workspace's Klaviyo account, for `live`."
    )
    klaviyo_base_url: HttpUrlText = Field("https://a.klaviyo.com", description="Where Klaviyo's API is.")
    klaviyo_forward_events: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names of tracked events that Klaviyo hears as metrics of their own, with commas between or as a JSON list; `*`: all. For the default workspace.",
    )
    demo_seconds: float = Field(
        5.0,
        ge=0,
        le=3600,
        description="How often `gateway dev` adds an event to its demo data, so that a subscription shows something; 0: never.",
    )
    log_level: str = Field(
        "INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$", description="The least severe log line that is written."
    )
    projection_stall_seconds: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="For how long the totals of definitions or the segments may stand still while changes wait, before `/readyz` answers 503 and the log has an error; ten times as long while they are rebuilt. 0: never.",
    )
    tracing: HttpUrlText | None = Field(
        None,
        description="Where spans go, by OpenTelemetry's protocol over HTTP, such as `http://127.0.0.1:4318`. Unset: nothing is traced.",
    )
    timeline_days: int = Field(
        90, ge=1, le=36500, description="How many days `Contact.events` shows unless its filter asks for other times."
    )
    event_retention_days: int | None = Field(
        None,
        ge=1,
        le=36500,
        description="How many days events are kept. What they were counted in (summaries, totals, values) is kept for ever, and so are their idempotency keys. Unset: for ever.",
    )
    compiled_execution: bool = Field(
        True,
        description="Whether operations are compiled to Python, once each, and executed so; false: graphql-core executes them, much slower, with the same answers.",
    )
    introspection: bool | None = Field(
        None,
        description="Whether operations may ask for the schema, and errors suggest names of it. Unset: on in `gateway dev`, off in `gateway serve`.",
    )
    graphiql: bool | None = Field(
        None, description="Whether `/` shows GraphiQL. Unset: on in `gateway dev`, off in `gateway serve`."
    )
    allowed_origins: tuple[str, ...] = Field(
        (),
        description='Origins (a JSON list, such as `["https://app.example.com"]`) whose pages may open sockets and track with keys of the scope BROWSER; pages of the gateway\'s own origin always may.',
    )
    max_operations_per_socket: int = Field(
        100, ge=1, le=10_000, description="The most operations under way on one socket."
    )
    max_sockets_per_key: int = Field(
        1000, ge=1, le=1_000_000, description="The most open sockets of one key in one process."
    )
    max_sockets_per_token: int = Field(
        20, ge=1, le=1_000_000, description="The most open sockets of one contact, by its tokens, in one process."
    )
    max_operations_per_token_socket: int = Field(
        20, ge=1, le=10_000, description="The most operations under way on one socket of a contact's token."
    )
    max_resumes_per_token: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="The most subscriptions of one contact, by its tokens, that catch up from old cursors at once in one process.",
    )
    socket_init_seconds: float = Field(
        10.0, gt=0, le=600, description="How long a socket may wait before it says who it is."
    )
    checkpoint_seconds: float = Field(
        30.0, gt=0, le=3600, description="How often a subscription says where it is, so that it can resume."
    )
    stream_ring: int = Field(
        10_000,
        ge=100,
        le=1_000_000,
        description="How many of the newest changes a process keeps for subscribers that come back.",
    )
    stream_queue: int = Field(
        1000, ge=10, le=100_000, description="How many changes wait for one subscriber before it is closed as too slow."
    )
    rate_limit: Rate = Field(
        "60000/minute",
        description="How many requests and operations on sockets one key may send, such as `1000/hour`; `0`: any number.",
    )
    rate_limit_cost: Rate = Field(
        NO_LIMIT,
        description="How much the operations of one key may cost, counted as for `GATEWAY_MAX_COST`; `0`: any number.",
    )
    rate_limit_anonymous: Rate = Field(
        "600/minute",
        description="How many requests may come from one address without a valid key; `0`: any number. A socket counts until it says who it is, and a key that is new to the process until it was looked up.",
    )
    rate_limit_store: RateLimitStore = Field(
        RateLimitStore.MEMORY,
        description="Where requests are counted: `memory`, each process for itself, or `mongodb`, all processes together.",
    )
    trusted_documents: Path | None = Field(
        None,
        description="A manifest of documents that clients name by an id: a JSON object of texts by id, or Apollo's. Read and checked at the start.",
    )
    only_trusted_documents: bool = Field(False, description="Whether all other documents are refused.")
    persisted_queries: int = Field(
        1000,
        ge=0,
        le=1_000_000,
        description="How many documents that clients register by their hash each process keeps, of up to 16,000 characters (a longer one counts as several); 0: none.",
    )
    max_tokens: int = Field(5000, ge=100, le=1_000_000, description="The most tokens of a GraphQL document.")
    max_document_bytes: int = Field(
        100_000,
        ge=1_000,
        le=100_000_000,
        description="The longest GraphQL document, over HTTP, on sockets and where clients register it by its hash.",
    )
    max_depth: int = Field(20, ge=1, le=100, description="How deep the fields of an operation may nest.")
    max_aliases: int = Field(
        200, ge=0, le=100_000, description="The most aliases of an operation, with its fragments spelled out."
    )
    max_directives: int = Field(
        100, ge=0, le=100_000, description="The most directives of an operation, with its fragments spelled out."
    )
    max_duplicate_fields: int = Field(
        100, ge=0, le=100_000, description="How often fields may be repeated side by side in an operation."
    )
    max_fields: int = Field(
        5000, ge=1, le=1_000_000, description="The most fields of a document, with its fragments spelled out."
    )
    max_cost: int = Field(
        50_000,
        ge=1,
        le=100_000_000,
        description="The most that an operation may cost, in rows: each list counts its size, times the rows it hangs on, and filters, totals and searches count what they look at (`@listSize` and `@cost` of the schema).",
    )
    cache_bytes: int = Field(
        128_000_000,
        ge=1_000_000,
        le=100_000_000_000,
        description="About how much memory one process keeps documents with their plans, keys, counters of rate limits, templates and whatever else it remembers in, all together: what was used least recently goes first.",
    )
    max_body_bytes: int = Field(4_000_000, ge=1_000, le=100_000_000, description="The largest request body.")
    max_header_bytes: int = Field(
        65_536,
        ge=1_024,
        le=1_048_576,
        description="The most bytes of a request's URL and headers; a websocket's handshake may have lines of 8192 bytes.",
    )
    max_headers: int = Field(100, ge=10, le=10_000, description="The most headers of a request.")
    header_seconds: float = Field(
        10.0,
        ge=0,
        le=600,
        description="How long the headers of a request may take to arrive, and a new connection to send its first request; `0`: any time.",
    )
    body_seconds: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="How long the body of a request may take to arrive, beside what `GATEWAY_MIN_BYTES_PER_SECOND` adds; `0`: any time.",
    )
    min_bytes_per_second: int = Field(
        1000,
        ge=0,
        le=1_000_000_000,
        description="The least rate of a slow peer: each so many bytes of a body give it one second more, and what is sent to a peer must be taken as fast; `0`: a body has no more time, and a peer may take one byte at a time.",
    )
    stalled_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="How long a peer may take less than the least rate of what is sent to it, over HTTP or a socket, before its connection is cut off.",
    )
    keep_alive_seconds: float = Field(
        75.0,
        gt=0,
        le=3600,
        description="How long a connection may be idle after an answer; longer than a proxy keeps it.",
    )
    max_connections: int = Field(
        10_000,
        ge=0,
        le=1_000_000,
        description="The most connections of one process, sockets among them; those beyond are answered with 503. Fewer where the process may not open so many files; `0`: any number.",
    )
    max_connections_per_address: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="The most connections of one process from one address (of IPv6: from one /64); `0`: any number. Leave it so behind a proxy, whose address all connections have.",
    )
    max_batch_events: int = Field(1000, ge=1, le=1000, description="The most events of one `trackEvents`.")
    max_event_name_length: int = Field(200, ge=1, le=1000, description="The most characters of an event's name.")
    max_event_names: int = Field(
        2000, ge=1, le=100_000, description="The most event names of a workspace that are not archived."
    )
    max_page_event_names: int = Field(
        500,
        ge=0,
        le=100_000,
        description="How many of these names may come from pages (keys of the scope BROWSER and tokens of contacts), so that visitors leave room for services. A name that `describeEvent` describes counts as the workspace's own.",
    )
    max_metadata_keys: int = Field(100, ge=1, le=10_000, description="The most metadata keys of one event.")
    max_metadata_key_length: int = Field(100, ge=1, le=1000, description="The most characters of a metadata key.")
    max_metadata_bytes: int = Field(
        32_768,
        ge=100,
        le=4_000_000,
        description="The most bytes of one event's metadata, as JSON. Custom attributes have the same limit.",
    )
    max_metadata_depth: int = Field(8, ge=1, le=50, description="How deep objects and lists in metadata may nest.")

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
        problems.append(f"A setting is not JSON, and it must be: {error}.")
    except ValidationError as error:
        problems += [_malformed(str(item["loc"][0]), item["msg"]) for item in error.errors()]
    else:
        if settings.klaviyo_mode is KlaviyoMode.LIVE and settings.klaviyo_api_key is None:
            problems.append("GATEWAY_KLAVIYO_MODE is live, and that needs GATEWAY_KLAVIYO_API_KEY: set it too.")
    if problems:
        raise StartupError("\n".join(problems))
    return settings


def database_name(settings: Settings, *, dev: bool = False) -> str:
    """Return the database's name; `gateway dev` on a configured server has its own."""
    return settings.mongo_database or ("gateway_dev" if dev and settings.mongo_uri else "gateway")


def settings_table() -> str:
    """Return the README's Markdown table, one row per setting."""
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
            f"The data folder {path} cannot be made private ({error.strerror}): name another with --data."
        ) from error
    return path.resolve()


def _check_ours(path: Path) -> None:
    """Check that the folder is empty or holds our data before its mode is changed. Raises StartupError."""
    entries = list(path.iterdir())
    if entries and not any(entry.name in _OUR_FILES for entry in entries):
        raise StartupError(
            f"The data folder {path} is open to others and holds files of something else: "
            "close it with 'chmod 700', or name another with --data."
        )
    if any(entry.lstat().st_uid != os.geteuid() for entry in entries):
        raise StartupError(
            f"The data folder {path} is open to others and holds files of another user: name another with --data."
        )


def _listed(text: str) -> object:
    if not text.lstrip().startswith("["):
        return [secret.strip() for secret in text.split(",")]
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise PydanticCustomError("not_json", "it begins like a JSON list, and is none") from None


def _is_setting(name: str) -> bool:
    return name.removeprefix(PREFIX).lower() in Settings.model_fields


def _unknown(name: str) -> str:
    names = [field.upper() for field in Settings.model_fields]
    close = difflib.get_close_matches(name.removeprefix(PREFIX), names, n=1)
    return f"{name} is not a setting" + (
        f": did you mean {PREFIX}{close[0]}?" if close else ": unset it, or see the table in the README."
    )


def _malformed(field: str, message: str) -> str:
    return f"{PREFIX}{field.upper()} is not usable: {message}."
