"""How the sync with Klaviyo is connected, paused and resumed, and what did not arrive is sent anew."""

from datetime import datetime

import strawberry

from gateway.destinations.klaviyo.klaviyo import Klaviyo
from gateway.domain.contacts.contacts import Document
from gateway.errors import ErrorCode, UserProblem
from gateway.outbox.deliveries import DeliveryState
from gateway.outbox.filters import DeliveryFilter as Wanted
from resolvers.context import Context
from resolvers.inputs import provided_fields
from resolvers.klaviyo import DeliveryFilter, klaviyo, search_of


@strawberry.input
class ConnectKlaviyoInput:
    """With which key."""

    api_key: str = strawberry.field(
        description="A private key with the scopes events:write, profiles:write and data-privacy:write. It is asked of Klaviyo, "
        "and kept encrypted."
    )
    base_url: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="An address of klaviyo.com, or GATEWAY_KLAVIYO_BASE_URL, which is the default.",
    )
    forward_events: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Tracked events that become metrics of their own name, at most 1,000."
    )
    forward_all_events: bool | None = strawberry.field(default=False, description="Every tracked event does.")


@strawberry.input
class DisconnectKlaviyoInput:
    """What becomes of what waits."""

    keep_pending: bool | None = strawberry.field(
        default=True, description="true: it goes out when Klaviyo is connected again; false: it is REJECTED."
    )


@strawberry.input
class PauseKlaviyoInput:
    """Why."""

    reason: str = strawberry.field(description="1 to 500 characters, for whoever resumes it.")


@strawberry.input
class ResumeKlaviyoInput:
    """Nothing is to be said."""

    client_mutation_id: str | None = strawberry.field(default=strawberry.UNSET, description="It means nothing.")


@strawberry.input(description="Exactly one of the three.")
class ReplayDeliveriesInput:
    """Which deliveries."""

    ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET, description="At most 1,000, each of them DEAD."
    )
    filter: DeliveryFilter | None = strawberry.field(
        default=strawberry.UNSET, description="Those of its deliveries that are DEAD."
    )
    all_dead: bool | None = strawberry.UNSET


@strawberry.input
class SyncContactInput:
    """Which contact."""

    id: strawberry.ID


@strawberry.input
class StartKlaviyoBackfillInput:
    """What of history."""

    since: datetime | None = strawberry.field(default=strawberry.UNSET, description="What happened then or later.")
    until: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="What happened before; now, where it is left out."
    )
    metrics: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Of the nine metrics, by name; all of them, where it is left out."
    )
    include_profiles: bool | None = strawberry.field(
        default=True, description="Profiles of contacts of whom Klaviyo was told nothing yet, before their events."
    )
    idempotency_key: str | None = strawberry.UNSET


@strawberry.input
class PauseKlaviyoBackfillInput:
    """Which backfill."""

    id: strawberry.ID


@strawberry.input
class ResumeKlaviyoBackfillInput:
    """Which backfill."""

    id: strawberry.ID


@strawberry.input
class CancelKlaviyoBackfillInput:
    """Which backfill."""

    id: strawberry.ID


async def connect(context: Context, input_: ConnectKlaviyoInput) -> Document:
    """The payload of `connectKlaviyo`."""
    await context.services.destination(Klaviyo).service.connect(context.principal.workspace_id, provided_fields(input_))
    return {"klaviyo": await klaviyo(context)}


async def disconnect(context: Context, input_: DisconnectKlaviyoInput | None) -> Document:
    """The payload of `disconnectKlaviyo`."""
    keep = (provided_fields(input_) or {}).get("keep_pending", True)
    await context.services.destination(Klaviyo).service.disconnect(context.principal.workspace_id, keep_pending=keep)
    return {"klaviyo": await klaviyo(context)}


async def pause(context: Context, input_: PauseKlaviyoInput) -> Document:
    """The payload of `pauseKlaviyo`."""
    await context.services.destination(Klaviyo).service.pause(context.principal.workspace_id, input_.reason)
    return {"klaviyo": await klaviyo(context)}


async def resume(context: Context, _: ResumeKlaviyoInput | None) -> Document:
    """The payload of `resumeKlaviyo`."""
    await context.services.destination(Klaviyo).service.resume(context.principal.workspace_id)
    return {"klaviyo": await klaviyo(context)}


async def replay(context: Context, input_: ReplayDeliveriesInput) -> Document:
    """The payload of `replayDeliveries`."""
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
    """The payload of `syncContact`."""
    return {
        "klaviyo": await context.services.destination(Klaviyo).service.sync_contact(
            context.principal.workspace_id, input_.id
        )
    }


async def start_backfill(context: Context, input_: StartKlaviyoBackfillInput) -> Document:
    """The payload of `startKlaviyoBackfill`."""
    return {
        "backfill": await context.services.destination(Klaviyo).backfills.start(
            context.principal.workspace_id, provided_fields(input_)
        )
    }


async def pause_backfill(context: Context, input_: PauseKlaviyoBackfillInput) -> Document:
    """The payload of `pauseKlaviyoBackfill`."""
    return {
        "backfill": await context.services.destination(Klaviyo).backfills.pause(
            context.principal.workspace_id, input_.id
        )
    }


async def resume_backfill(context: Context, input_: ResumeKlaviyoBackfillInput) -> Document:
    """The payload of `resumeKlaviyoBackfill`."""
    return {
        "backfill": await context.services.destination(Klaviyo).backfills.resume(
            context.principal.workspace_id, input_.id
        )
    }


async def cancel_backfill(context: Context, input_: CancelKlaviyoBackfillInput) -> Document:
    """The payload of `cancelKlaviyoBackfill`."""
    return {
        "backfill": await context.services.destination(Klaviyo).backfills.cancel(
            context.principal.workspace_id, input_.id
        )
    }
