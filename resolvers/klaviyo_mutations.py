"""Inputs and resolvers of the mutations of the synchronization with Klaviyo."""

from datetime import datetime

import strawberry

from gateway.destinations.klaviyo.commands import ConnectKlaviyo, StartBackfill
from gateway.destinations.klaviyo.klaviyo import Klaviyo
from gateway.domain.contacts.contacts import Document
from gateway.errors import ErrorCode, UserProblem
from gateway.outbox.deliveries import DeliveryState
from gateway.outbox.filters import DeliveryFilter as Wanted
from resolvers.context import Context
from resolvers.inputs import command, provided_fields
from resolvers.klaviyo import DeliveryFilter, klaviyo, search_of


@strawberry.input
class ConnectKlaviyoInput:
    api_key: str = strawberry.field(
        description="A private API key of Klaviyo with the scopes events:write, profiles:write and data-privacy:write. It is checked with Klaviyo and stored encrypted."
    )
    base_url: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="A URL of klaviyo.com. Default: GATEWAY_KLAVIYO_BASE_URL.",
    )
    forward_events: list[str] | None = strawberry.field(
        default=strawberry.UNSET,
        description="The names of tracked events to forward as metrics of the same name; at most 1,000.",
    )
    forward_all_events: bool | None = strawberry.field(default=False, description="true: forward every tracked event.")


@strawberry.input
class DisconnectKlaviyoInput:
    keep_pending: bool | None = strawberry.field(
        default=True,
        description="true: waiting deliveries are sent when Klaviyo is connected again; false: they become REJECTED.",
    )


@strawberry.input
class PauseKlaviyoInput:
    reason: str = strawberry.field(description="The reason, for the person who resumes it. 1 to 500 characters.")


@strawberry.input
class ResumeKlaviyoInput:
    client_mutation_id: str | None = strawberry.field(
        default=strawberry.UNSET, description="Ignored: an input needs at least one field."
    )


@strawberry.input(description="Give exactly one field.")
class ReplayDeliveriesInput:
    ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET, description="At most 1,000 ids of DEAD deliveries."
    )
    filter: DeliveryFilter | None = strawberry.field(
        default=strawberry.UNSET, description="The DEAD deliveries that match this filter."
    )
    all_dead: bool | None = strawberry.UNSET


@strawberry.input
class SyncContactInput:
    id: strawberry.ID


@strawberry.input
class StartKlaviyoBackfillInput:
    since: datetime | None = strawberry.field(default=strawberry.UNSET, description="Send history from this time on.")
    until: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Send history before this time. Omitted: now."
    )
    metrics: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="The names of the support metrics to send. Omitted: all of them."
    )
    include_profiles: bool | None = strawberry.field(
        default=True, description="Send the profiles of contacts that Klaviyo does not have yet, before their events."
    )
    idempotency_key: str | None = strawberry.UNSET


@strawberry.input
class PauseKlaviyoBackfillInput:
    id: strawberry.ID


@strawberry.input
class ResumeKlaviyoBackfillInput:
    id: strawberry.ID


@strawberry.input
class CancelKlaviyoBackfillInput:
    id: strawberry.ID


async def connect(context: Context, input_: ConnectKlaviyoInput) -> Document:
    await context.services.destination(Klaviyo).service.connect(
        context.principal.workspace_id, command(ConnectKlaviyo, input_)
    )
    return {"klaviyo": await klaviyo(context)}


async def disconnect(context: Context, input_: DisconnectKlaviyoInput | None) -> Document:
    keep = (provided_fields(input_) or {}).get("keep_pending", True)
    await context.services.destination(Klaviyo).service.disconnect(context.principal.workspace_id, keep_pending=keep)
    return {"klaviyo": await klaviyo(context)}


async def pause(context: Context, input_: PauseKlaviyoInput) -> Document:
    await context.services.destination(Klaviyo).service.pause(context.principal.workspace_id, input_.reason)
    return {"klaviyo": await klaviyo(context)}


async def resume(context: Context, _: ResumeKlaviyoInput | None) -> Document:
    await context.services.destination(Klaviyo).service.resume(context.principal.workspace_id)
    return {"klaviyo": await klaviyo(context)}


async def replay(context: Context, input_: ReplayDeliveriesInput) -> Document:
    values, workspace_id = provided_fields(input_), context.principal.workspace_id
    given = [name for name, value in values.items() if value is not False]
    if len(given) != 1:
        raise UserProblem(ErrorCode.INVALID, "Give exactly one of ids, filter and allDead.")
    replays = context.services.destination(Klaviyo).replays
    if "ids" in given:
        return {"replayed": await replays.replay_ids(workspace_id, values["ids"])}
    criteria = Wanted(states=frozenset({DeliveryState.DEAD.value}))
    if "filter" in given:
        criteria = (await search_of(context, values["filter"])).filter
    return {"replayed": await replays.replay(workspace_id, criteria)}


async def sync_contact(context: Context, input_: SyncContactInput) -> Document:
    return {
        "klaviyo": await context.services.destination(Klaviyo).service.sync_contact(
            context.principal.workspace_id, input_.id
        )
    }


async def start_backfill(context: Context, input_: StartKlaviyoBackfillInput) -> Document:
    return {
        "backfill": await context.services.destination(Klaviyo).backfills.start(
            context.principal.workspace_id, command(StartBackfill, input_)
        )
    }


async def pause_backfill(context: Context, input_: PauseKlaviyoBackfillInput) -> Document:
    return {
        "backfill": await context.services.destination(Klaviyo).backfills.pause(
            context.principal.workspace_id, input_.id
        )
    }


async def resume_backfill(context: Context, input_: ResumeKlaviyoBackfillInput) -> Document:
    return {
        "backfill": await context.services.destination(Klaviyo).backfills.resume(
            context.principal.workspace_id, input_.id
        )
    }


async def cancel_backfill(context: Context, input_: CancelKlaviyoBackfillInput) -> Document:
    return {
        "backfill": await context.services.destination(Klaviyo).backfills.cancel(
            context.principal.workspace_id, input_.id
        )
    }
