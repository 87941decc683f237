"""Mutations of the synchronization with Klaviyo."""

import strawberry
from strawberry import Info

from resolvers import klaviyo_mutations
from resolvers.costs import MANY, ONE_ERROR
from resolvers.klaviyo_mutations import (
    CancelKlaviyoBackfillInput,
    ConnectKlaviyoInput,
    DisconnectKlaviyoInput,
    PauseKlaviyoBackfillInput,
    PauseKlaviyoInput,
    ReplayDeliveriesInput,
    ResumeKlaviyoBackfillInput,
    ResumeKlaviyoInput,
    StartKlaviyoBackfillInput,
    SyncContactInput,
)
from resolvers.scalars import SafeInt
from schema.errors import UserError, payload
from schema.klaviyo import KLAVIYO, KlaviyoBackfill, KlaviyoSubject, KlaviyoSync


@strawberry.type
class ConnectKlaviyoPayload:
    klaviyo: KlaviyoSync | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class DisconnectKlaviyoPayload:
    klaviyo: KlaviyoSync | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class PauseKlaviyoPayload:
    klaviyo: KlaviyoSync | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ResumeKlaviyoPayload:
    klaviyo: KlaviyoSync | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ReplayDeliveriesPayload:
    replayed: SafeInt
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SyncContactPayload:
    klaviyo: KlaviyoSubject | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class StartKlaviyoBackfillPayload:
    backfill: KlaviyoBackfill | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class PauseKlaviyoBackfillPayload:
    backfill: KlaviyoBackfill | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ResumeKlaviyoBackfillPayload:
    backfill: KlaviyoBackfill | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class CancelKlaviyoBackfillPayload:
    backfill: KlaviyoBackfill | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class KlaviyoMutation:
    @strawberry.mutation(
        directives=[KLAVIYO],
        description="Connect the workspace to Klaviyo, after Klaviyo has accepted the API key. Every process uses the connection within a second.",
    )
    async def connect_klaviyo(self, info: Info, input: ConnectKlaviyoInput) -> ConnectKlaviyoPayload | None:
        return await payload(klaviyo_mutations.connect, info, input, klaviyo=None)

    @strawberry.mutation(
        directives=[KLAVIYO], description="Disconnect from Klaviyo: stop queueing and sending, and delete the API key."
    )
    async def disconnect_klaviyo(
        self, info: Info, input: DisconnectKlaviyoInput | None = strawberry.UNSET
    ) -> DisconnectKlaviyoPayload | None:
        return await payload(klaviyo_mutations.disconnect, info, input or None, klaviyo=None)

    @strawberry.mutation(
        directives=[KLAVIYO],
        description="Pause sending. New deliveries are queued until the synchronization is resumed.",
    )
    async def pause_klaviyo(self, info: Info, input: PauseKlaviyoInput) -> PauseKlaviyoPayload | None:
        return await payload(klaviyo_mutations.pause, info, input, klaviyo=None)

    @strawberry.mutation(
        directives=[KLAVIYO], description="Resume sending. Deliveries that were tried before get 72 hours again."
    )
    async def resume_klaviyo(
        self, info: Info, input: ResumeKlaviyoInput | None = strawberry.UNSET
    ) -> ResumeKlaviyoPayload | None:
        return await payload(klaviyo_mutations.resume, info, input or None, klaviyo=None)

    @strawberry.mutation(
        directives=[KLAVIYO, MANY],
        description="Send DEAD deliveries again: by id, by filter, or all. At most 10,000 per call, oldest first. A profile is sent with the contact's current data.",
    )
    async def replay_deliveries(self, info: Info, input: ReplayDeliveriesInput) -> ReplayDeliveriesPayload | None:
        return await payload(klaviyo_mutations.replay, info, input, replayed=0)

    @strawberry.mutation(
        directives=[KLAVIYO], description="Send the contact's current profile, even if Klaviyo already has it."
    )
    async def sync_contact(self, info: Info, input: SyncContactInput) -> SyncContactPayload | None:
        return await payload(klaviyo_mutations.sync_contact, info, input, klaviyo=None)

    @strawberry.mutation(
        directives=[KLAVIYO],
        description="Send history to Klaviyo, with a lower priority than new changes. Workers continue it after a restart. One backfill can run at a time.",
    )
    async def start_klaviyo_backfill(
        self, info: Info, input: StartKlaviyoBackfillInput
    ) -> StartKlaviyoBackfillPayload | None:
        return await payload(klaviyo_mutations.start_backfill, info, input, backfill=None)

    @strawberry.mutation(
        directives=[KLAVIYO],
        description="Pause a backfill: queue nothing more until it is resumed. Deliveries that are already queued (at most 2,000) are sent.",
    )
    async def pause_klaviyo_backfill(
        self, info: Info, input: PauseKlaviyoBackfillInput
    ) -> PauseKlaviyoBackfillPayload | None:
        return await payload(klaviyo_mutations.pause_backfill, info, input, backfill=None)

    @strawberry.mutation(directives=[KLAVIYO], description="Resume a backfill where it stopped.")
    async def resume_klaviyo_backfill(
        self, info: Info, input: ResumeKlaviyoBackfillInput
    ) -> ResumeKlaviyoBackfillPayload | None:
        return await payload(klaviyo_mutations.resume_backfill, info, input, backfill=None)

    @strawberry.mutation(
        directives=[KLAVIYO],
        description="Cancel a backfill. Deliveries that are already queued (at most 2,000) are sent.",
    )
    async def cancel_klaviyo_backfill(
        self, info: Info, input: CancelKlaviyoBackfillInput
    ) -> CancelKlaviyoBackfillPayload | None:
        return await payload(klaviyo_mutations.cancel_backfill, info, input, backfill=None)
