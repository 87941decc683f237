"""Commands on a workspace's Klaviyo connection: connect, disconnect, pause, resume, and sync one contact."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic_core import Url

from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.core.pagination import Page
from gateway.core.text_rules import MAX_URL_LENGTH
from gateway.core.time_ranges import TimeRange
from gateway.destinations.klaviyo.client import KlaviyoClient, open_http_client
from gateway.destinations.klaviyo.key_check import ask, problem_of
from gateway.domain.changes import delivery_changed, new_change_id
from gateway.domain.contacts.contacts import Document
from gateway.domain.deliveries import DISCONNECTED, DeliveryState, backfill_tallies, discarded
from gateway.domain.syncs import KlaviyoConnection
from gateway.errors import ErrorCode, UserProblem
from gateway.services.outboxes import Outbox, full_profile
from gateway.services.syncs import KlaviyoConnections
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


class KlaviyoService:
    """Commands on the Klaviyo connection of a workspace."""

    def __init__(
        self, store: Store, settings: Settings, clock: Clock, minter: Minter, syncs: KlaviyoConnections, outbox: Outbox
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._minter = minter
        self._syncs = syncs
        self._outbox = outbox

    async def connect(self, workspace_id: str, options: Mapping[str, Any]) -> None:
        """Connect the workspace with a key that Klaviyo accepts; UserProblem otherwise."""
        key, base_url = _check_key(options["api_key"]), self._check_base_url(options.get("base_url"))
        names = _check_names(options.get("forward_events") or ())
        self._syncs.check_secret()
        if (problem := await self._problem(key, base_url or self._settings.klaviyo_base_url)) is not None:
            raise UserProblem(ErrorCode.INVALID, problem, ("apiKey",))
        forward_all = bool(options.get("forward_all_events"))
        await self._syncs.connect(workspace_id, key, base_url, forwarded=names, forward_all=forward_all)

    async def disconnect(self, workspace_id: str, *, keep_pending: bool) -> None:
        """Queue and send nothing more. Pending deliveries are discarded unless `keep_pending`."""
        await self._syncs.disconnect(workspace_id)
        if not keep_pending:
            store = self._store.open(workspace_id)
            while pending := await self._pending(store):
                discard = partial(self._discard_pending, store, pending)
                await retry_transaction(partial(_in_transaction, store, discard))

    async def pause(self, workspace_id: str, reason: str) -> None:
        """Stop sending until it is resumed; new deliveries still queue up."""
        if not reason.strip() or len(reason) > _LONGEST_REASON:
            message = f"reason must have 1 to {_LONGEST_REASON} characters: say why, for whoever resumes it."
            raise UserProblem(ErrorCode.INVALID, message, ("reason",))
        await self.check_on(workspace_id)
        await self._syncs.pause(workspace_id, reason)

    async def resume(self, workspace_id: str) -> None:
        """Start sending again."""
        await self.check_on(workspace_id)
        await self._syncs.resume(workspace_id)

    async def sync_contact(self, workspace_id: str, contact_id: str) -> Document:
        """Queue the full profile of a contact, whatever was sent before; returns the contact."""
        await self.check_on(workspace_id)
        store, now = self._store.open(workspace_id), self._clock()
        contact = (await store.contacts.of_ids([contact_id])).get(contact_id)
        if contact is None:
            raise _unknown(contact_id)
        if (problem := full_profile(contact).problem) is not None:
            raise UserProblem(ErrorCode.INVALID, problem, ("id",))

        async def write(session: Session) -> None:
            current = (await store.contacts.by_ids([contact["_id"]], session)).get(contact["_id"])
            if current is None:
                raise _unknown(contact_id)
            await self._outbox.enqueue(store, [full_profile(current)], now, session)

        await retry_transaction(partial(_in_transaction, store, write))
        return contact

    async def problem(self, workspace_id: str) -> tuple[KlaviyoConnection, str | None]:
        """The connection, and what Klaviyo finds wrong with its key; None if nothing is."""
        sync = await self._syncs.read(workspace_id)
        if not sync.is_active:
            return sync, "The sync is off: connect it by connectKlaviyo, or set GATEWAY_KLAVIYO_MODE."
        key = await self._syncs.api_key(sync)
        if key is None:
            why = "there is none" if sync.sealed_key is None else "it cannot be opened with GATEWAY_SECRET_KEY"
            return (
                sync,
                f"No key can be checked: {why}. Connect Klaviyo by connectKlaviyo, or set GATEWAY_KLAVIYO_API_KEY.",
            )
        return sync, await self._problem(key, sync.base_url)

    async def check_on(self, workspace_id: str) -> KlaviyoConnection:
        """The connection; UserProblem ILLEGAL_TRANSITION if it is off."""
        sync = await self._syncs.read(workspace_id)
        if not sync.is_active:
            message = "Klaviyo is not connected to this workspace: do that first, by connectKlaviyo."
            raise UserProblem(ErrorCode.ILLEGAL_TRANSITION, message)
        return sync

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
        message = "baseUrl must be an https address of klaviyo.com; any other is for GATEWAY_KLAVIYO_BASE_URL to allow."
        raise UserProblem(ErrorCode.INVALID, message, ("baseUrl",))

    async def _pending(self, store: WorkspaceStore) -> list[Document]:
        filters = [{"state": state.value} for state in (DeliveryState.PENDING, DeliveryState.RETRYING)]
        oldest = Page(_ROWS_AT_ONCE - 1, True, None, None)
        return await store.deliveries.page(filters, oldest, TimeRange(), self._clock())

    async def _discard_pending(self, store: WorkspaceStore, rows: Sequence[Document], session: Session) -> None:
        now = self._clock()
        stored = await store.deliveries.by_ids([row["_id"] for row in rows], session)
        open_rows = [row for row in stored.values() if row["state"] in (DeliveryState.PENDING, DeliveryState.RETRYING)]
        changes = {row["_id"]: discarded(DISCONNECTED, now) for row in open_rows}
        await store.deliveries.change(changes, session)
        lines = [
            delivery_changed(new_change_id(self._minter, now), {**row, **changes[row["_id"]]}, row["state"], now)
            for row in open_rows
        ]
        await store.changes.write(lines, session)
        changed = [{**row, **changes[row["_id"]]} for row in open_rows]
        await store.backfills.settle(
            backfill_tallies(changed, {row["_id"]: row["state"] for row in open_rows}), session
        )


def _is_of_klaviyo(url: Url) -> bool:
    host = url.host or ""
    bare = not (has_credentials(url) or url.query or url.fragment)
    return bare and (host == "klaviyo.com" or host.endswith(".klaviyo.com"))


async def _in_transaction(store: WorkspaceStore, body: Callable[[Session], Awaitable[None]], _: int) -> None:
    await store.database.transaction(body)


def _unknown(contact_id: str) -> UserProblem:
    return UserProblem(ErrorCode.NOT_FOUND, f"There is no contact with the id '{contact_id}'.", ("id",))


def _check_key(key: str) -> str:
    if not 8 <= len(key) <= _LONGEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        message = "apiKey must be a private key of Klaviyo, such as pk_...: copy one from Settings, API keys."
        raise UserProblem(ErrorCode.INVALID, message, ("apiKey",))
    return key


def _check_names(names: Sequence[str]) -> list[str]:
    if len(names) > MOST_FORWARDED:
        message = f"forwardEvents has {len(names)} names, and {MOST_FORWARDED} are allowed: use forwardAllEvents."
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message, ("forwardEvents",))
    for index, name in enumerate(names):
        if not name or len(name) > _LONGEST_NAME:
            message = f"The name of a metric has 1 to {_LONGEST_NAME} characters: leave this event out."
            raise UserProblem(ErrorCode.INVALID, message, ("forwardEvents", str(index)))
    return list(dict.fromkeys(names))
