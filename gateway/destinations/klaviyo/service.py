"""Commands on a workspace's Klaviyo connection: connect, disconnect, pause, resume, and sync one contact."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from pydantic_core import Url

from gateway.core.clock import Clock
from gateway.core.pagination import Page
from gateway.core.text_rules import MAX_URL_LENGTH
from gateway.core.time_ranges import TimeRange
from gateway.destinations.klaviyo.client import KlaviyoClient, open_http_client
from gateway.destinations.klaviyo.commands import ConnectKlaviyo
from gateway.destinations.klaviyo.connection import KlaviyoConnection
from gateway.destinations.klaviyo.connections import KlaviyoConnections
from gateway.destinations.klaviyo.key_check import ask, problem_of
from gateway.destinations.klaviyo.new_deliveries import full_profile
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.domain.contacts.documents import ContactDocument
from gateway.errors import ErrorCode, UserProblem
from gateway.outbox.deliveries import DeliveryState
from gateway.outbox.documents import DeliveryDocument
from gateway.outbox.enqueuer import Enqueuer
from gateway.settings import Settings
from gateway.store.driver import Session
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore
from gateway.urls import has_credentials, parse_http_url

MOST_FORWARDED = 1000
_LONGEST_NAME = 127
_LONGEST_REASON = 500
_LONGEST_KEY = 200
_ROWS_AT_ONCE = 200
_PENDING = (DeliveryState.PENDING, DeliveryState.RETRYING)
_DISCONNECTED = "Klaviyo was disconnected, and waiting deliveries were discarded."


class KlaviyoService:
    """Commands on the Klaviyo connection of a workspace."""

    def __init__(
        self, store: Store, settings: Settings, clock: Clock, connections: KlaviyoConnections, enqueuer: Enqueuer
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._connections = connections
        self._enqueuer = enqueuer

    async def connect(self, workspace_id: str, command: ConnectKlaviyo) -> None:
        """Connect the workspace with a key that Klaviyo accepts; UserProblem otherwise."""
        key, base_url = _check_key(command.api_key), self._check_base_url(command.base_url)
        names = _check_names(command.forward_events or ())
        self._connections.check_secret()
        if (problem := await self._problem(key, base_url or self._settings.klaviyo_base_url)) is not None:
            raise UserProblem(ErrorCode.INVALID, problem, ("apiKey",))
        forward_all = bool(command.forward_all_events)
        await self._connections.connect(workspace_id, key, base_url, forwarded=names, forward_all=forward_all)

    async def disconnect(self, workspace_id: str, *, keep_pending: bool) -> None:
        """Queue and send nothing more. Pending deliveries are discarded unless `keep_pending`."""
        await self._connections.disconnect(workspace_id)
        if not keep_pending:
            store = KlaviyoStore(self._store.open(workspace_id))
            while pending := await self._pending(store):
                discard = partial(self._discard_pending, store, pending)
                await retry_transaction(partial(_in_transaction, store.workspace, discard))

    async def pause(self, workspace_id: str, reason: str) -> None:
        """Stop sending until it is resumed; new deliveries still queue up."""
        if not reason.strip() or len(reason) > _LONGEST_REASON:
            message = f"reason must have 1 to {_LONGEST_REASON} characters, for the person who resumes it."
            raise UserProblem(ErrorCode.INVALID, message, ("reason",))
        await self.check_on(workspace_id)
        await self._connections.pause(workspace_id, reason)

    async def resume(self, workspace_id: str) -> None:
        await self.check_on(workspace_id)
        await self._connections.resume(workspace_id)

    async def sync_contact(self, workspace_id: str, contact_id: str) -> ContactDocument:
        """Queue the full profile of a contact, whatever was sent before; returns the contact."""
        await self.check_on(workspace_id)
        store, now = self._store.open(workspace_id), self._clock()
        contact = await store.contacts.of_id(contact_id)
        if contact is None:
            raise _unknown(contact_id)
        if (problem := full_profile(contact).problem) is not None:
            raise UserProblem(ErrorCode.INVALID, problem, ("id",))

        async def write(session: Session) -> None:
            current = await store.contacts.get(contact["_id"], session)
            if current is None:
                raise _unknown(contact_id)
            await self._enqueuer.enqueue(store, [full_profile(current)], now, session)

        await retry_transaction(partial(_in_transaction, store, write))
        return contact

    async def problem(self, workspace_id: str) -> tuple[KlaviyoConnection, str | None]:
        """The connection, and what Klaviyo finds wrong with its key; None if nothing is."""
        connection = await self._connections.read(workspace_id)
        if not connection.is_active:
            return connection, "Klaviyo is off: connect with connectKlaviyo, or set GATEWAY_KLAVIYO_MODE."
        key = await self._connections.api_key(connection)
        if key is None:
            why = "there is none" if connection.sealed_key is None else "it cannot be decrypted with GATEWAY_SECRET_KEY"
            return (
                connection,
                f"There is no API key to check: {why}. Connect with connectKlaviyo, or set GATEWAY_KLAVIYO_API_KEY.",
            )
        return connection, await self._problem(key, connection.base_url)

    async def check_on(self, workspace_id: str) -> KlaviyoConnection:
        """The connection; UserProblem ILLEGAL_TRANSITION if it is off."""
        connection = await self._connections.read(workspace_id)
        if not connection.is_active:
            message = "Klaviyo is not connected to this workspace: use connectKlaviyo first."
            raise UserProblem(ErrorCode.ILLEGAL_TRANSITION, message)
        return connection

    async def _problem(self, key: str, base_url: str) -> str | None:
        async with open_http_client() as http:
            return problem_of(await ask(KlaviyoClient(http, base_url, key, self._clock)))

    def _check_base_url(self, url: str | None) -> str | None:
        """Allow only Klaviyo's hosts and the configured URL: the gateway must not call arbitrary hosts."""
        if url is None or url == self._settings.klaviyo_base_url:
            return url
        parts = parse_http_url(url) if len(url) <= MAX_URL_LENGTH else None
        if parts is not None and parts.scheme == "https" and _is_of_klaviyo(parts):
            return str(parts)  # the parsed form: another parser may see another host in the raw text
        message = "baseUrl must be an https URL of klaviyo.com, or GATEWAY_KLAVIYO_BASE_URL."
        raise UserProblem(ErrorCode.INVALID, message, ("baseUrl",))

    async def _pending(self, store: KlaviyoStore) -> list[DeliveryDocument]:
        filters = [{"state": state.value} for state in _PENDING]
        oldest = Page(_ROWS_AT_ONCE - 1, True, None, None)
        return await store.deliveries.page(filters, oldest, TimeRange(), self._clock())

    async def _discard_pending(self, store: KlaviyoStore, rows: Sequence[DeliveryDocument], session: Session) -> None:
        stored = await store.deliveries.by_ids([row["_id"] for row in rows], session)
        pending = [row for row in stored.values() if row["state"] in _PENDING]
        await self._enqueuer.discard(store.workspace, pending, _DISCONNECTED, self._clock(), session)


def _is_of_klaviyo(url: Url) -> bool:
    host = url.host or ""
    bare = not (has_credentials(url) or url.query or url.fragment)
    return bare and (host == "klaviyo.com" or host.endswith(".klaviyo.com"))


async def _in_transaction(store: WorkspaceStore, body: Callable[[Session], Awaitable[None]], _: int) -> None:
    await store.database.transaction(body)


def _unknown(contact_id: str) -> UserProblem:
    return UserProblem(
        ErrorCode.NOT_FOUND,
        f"There is no contact with the id '{contact_id}': it was deleted or never existed.",
        ("id",),
    )


def _check_key(key: str) -> str:
    if not 8 <= len(key) <= _LONGEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        message = "apiKey must be a private API key of Klaviyo, such as pk_...: copy one from Settings, API keys."
        raise UserProblem(ErrorCode.INVALID, message, ("apiKey",))
    return key


def _check_names(names: Sequence[str]) -> list[str]:
    if len(names) > MOST_FORWARDED:
        message = f"forwardEvents has {len(names)} names; the limit is {MOST_FORWARDED}: use forwardAllEvents."
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message, ("forwardEvents",))
    for index, name in enumerate(names):
        if not name or len(name) > _LONGEST_NAME:
            message = f"A metric name must have 1 to {_LONGEST_NAME} characters: leave this event out."
            raise UserProblem(ErrorCode.INVALID, message, ("forwardEvents", str(index)))
    return list(dict.fromkeys(names))
