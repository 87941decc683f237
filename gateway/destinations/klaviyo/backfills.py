"""Commands on backfills: start, pause, resume and cancel."""

from collections.abc import Mapping
from datetime import datetime

from gateway.core.clock import Clock
from gateway.core.idempotency import claim, request_of
from gateway.core.ids import Minter, Prefix
from gateway.destinations.klaviyo.backfill import ACTIVE, BackfillState, Stage, finished, new_backfill, resumed
from gateway.destinations.klaviyo.backfill_metrics import METRICS
from gateway.destinations.klaviyo.backfill_writer import BackfillWriter
from gateway.destinations.klaviyo.commands import StartBackfill
from gateway.destinations.klaviyo.documents import BackfillChanges, BackfillDocument
from gateway.destinations.klaviyo.mapping import Metric
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.destinations.klaviyo.service import KlaviyoService
from gateway.domain.events.events import check_idempotency_key
from gateway.errors import ErrorCode, UserProblem
from gateway.store.driver import DuplicateError, Session, TransientError
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store


class BackfillService:
    """Starts and controls backfills, which a runner carries out."""

    def __init__(self, store: Store, clock: Clock, minter: Minter, klaviyo: KlaviyoService) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter
        self._klaviyo = klaviyo
        self._writer = BackfillWriter(clock, minter)

    async def start(self, workspace_id: str, command: StartBackfill) -> BackfillDocument:
        """Start a backfill; UserProblem CONFLICT if another one is active."""
        key = check_idempotency_key(command.idempotency_key)
        key_claim = claim("startKlaviyoBackfill", key, _json_values(request_of(command)))
        store, now = self._open(workspace_id), self._clock()
        id_ = self._minter.mint(Prefix.BACKFILL, now)
        backfill = new_backfill(id_, workspace_id, command, _stages_of(command), now)

        async def write(session: Session) -> None:
            await store.backfills.insert(backfill, session)
            if key_claim is not None:
                await store.workspace.idempotency_keys.keep(key_claim, {"backfill_id": id_}, now, session)
            await self._writer.log(store, backfill, session)

        async def attempt(number: int) -> BackfillDocument:
            if key_claim and (result := await store.workspace.idempotency_keys.result_of(key_claim)) is not None:
                return (await store.backfills.by_ids([result["backfill_id"]]))[result["backfill_id"]]
            if number > 1 and (stored := await store.backfills.get(id_)) is not None:
                return stored
            await self._klaviyo.check_on(workspace_id)
            if (active := await store.backfills.active()) is not None:
                raise _conflict(active["_id"])
            try:
                await store.database.transaction(write)
            except DuplicateError:
                raise TransientError("another backfill was started meanwhile") from None
            return backfill

        return await retry_transaction(attempt)

    async def pause(self, workspace_id: str, id_: str) -> BackfillDocument:
        """Queue nothing more until it is resumed. What is queued is still sent."""
        return await self._set_state(workspace_id, id_, BackfillState.PAUSED)

    async def resume(self, workspace_id: str, id_: str) -> BackfillDocument:
        await self._klaviyo.check_on(workspace_id)
        return await self._set_state(workspace_id, id_, BackfillState.RUNNING)

    async def cancel(self, workspace_id: str, id_: str) -> BackfillDocument:
        """Queue nothing more. What is queued is still sent."""
        return await self._set_state(workspace_id, id_, BackfillState.CANCELLED)

    def _open(self, workspace_id: str) -> KlaviyoStore:
        return KlaviyoStore(self._store.open(workspace_id))

    async def _set_state(self, workspace_id: str, id_: str, state: BackfillState) -> BackfillDocument:
        store = self._open(workspace_id)

        async def attempt(_: int) -> BackfillDocument:
            backfill, now = await store.backfills.get(id_), self._clock()
            if backfill is None:
                raise UserProblem(
                    ErrorCode.NOT_FOUND, f"There is no backfill with the id '{id_}': correct the id.", ("id",)
                )
            if backfill["state"] == state:
                return backfill
            if backfill["state"] not in ACTIVE:
                message = f"The backfill is {backfill['state']}, and only a RUNNING or PAUSED one can be changed: start a new one."
                raise UserProblem(ErrorCode.ILLEGAL_TRANSITION, message, ("id",))
            values: BackfillChanges = {"state": state.value}
            if state is BackfillState.RUNNING:
                values = resumed(backfill, now)
            elif state is BackfillState.CANCELLED:
                values = finished(backfill, state, now)
            await self._writer.change(store, backfill, values)
            return {**backfill, **values}

        return await retry_transaction(attempt)


def _stages_of(command: StartBackfill) -> list[Stage]:
    metrics = command.metrics
    for index, name in enumerate(metrics or ()):
        if name not in set(Metric):
            message = f"'{name}' is not a support metric. The metrics: {', '.join(Metric)}."
            raise UserProblem(ErrorCode.INVALID, message, ("metrics", str(index)))
    since, until = command.since, command.until
    if since is not None and until is not None and since >= until:
        raise UserProblem(ErrorCode.INVALID, "since must be before until: swap them.", ("since",))
    requested = set(Metric) if metrics is None else set(metrics)
    stages = [Stage.CONTACTS] if command.include_profiles is not False else []
    stages += [stage for stage, stage_metrics in METRICS.items() if requested.intersection(stage_metrics)]
    if not stages:
        raise UserProblem(
            ErrorCode.INVALID, "The backfill would be empty: give a metric, or set includeProfiles.", ("metrics",)
        )
    return stages


def _conflict(id_: str) -> UserProblem:
    message = f"The backfill '{id_}' is active, and a workspace can have one at a time: cancel it, or wait for its end."
    return UserProblem(ErrorCode.CONFLICT, message)


def _json_values(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in options.items()}
