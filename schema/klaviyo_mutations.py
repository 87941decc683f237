"""What people do to the sync with Klaviyo."""

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
    """The sync as it is now."""

    klaviyo: KlaviyoSync | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class DisconnectKlaviyoPayload:
    """The sync as it is now."""

    klaviyo: KlaviyoSync | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class PauseKlaviyoPayload:
    """The sync as it is now."""

    klaviyo: KlaviyoSync | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ResumeKlaviyoPayload:
    """The sync as it is now."""

    klaviyo: KlaviyoSync | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ReplayDeliveriesPayload:
    """How many are sent again."""

    replayed: SafeInt
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SyncContactPayload:
    """What Klaviyo has heard of the contact."""

    klaviyo: KlaviyoSubject | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class StartKlaviyoBackfillPayload:
    """The backfill as it is now."""

    backfill: KlaviyoBackfill | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class PauseKlaviyoBackfillPayload:
    """The backfill as it is now."""

    backfill: KlaviyoBackfill | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ResumeKlaviyoBackfillPayload:
    """The backfill as it is now."""

    backfill: KlaviyoBackfill | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class CancelKlaviyoBackfillPayload:
    """The backfill as it is now."""

    backfill: KlaviyoBackfill | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class KlaviyoMutation:
    """The root fields that change the sync."""

    @strawberry.mutation(
        directives=[KLAVIYO],
        description="Let the workspace be LIVE, once Klaviyo was asked whether the key is right; within a second every process "
        "goes by it.",
    )
    async def connect_klaviyo(self, info: Info, input: ConnectKlaviyoInput) -> ConnectKlaviyoPayload | None:
        """Connect."""
        return await payload(klaviyo_mutations.connect, info, input, klaviyo=None)

    @strawberry.mutation(directives=[KLAVIYO], description="Queue and send nothing more, and forget the key.")
    async def disconnect_klaviyo(
        self, info: Info, input: DisconnectKlaviyoInput | None = strawberry.UNSET
    ) -> DisconnectKlaviyoPayload | None:
        """Disconnect."""
        return await payload(klaviyo_mutations.disconnect, info, input or None, klaviyo=None)

    @strawberry.mutation(
        directives=[KLAVIYO], description="Send nothing until it is resumed; what happens meanwhile is queued."
    )
    async def pause_klaviyo(self, info: Info, input: PauseKlaviyoInput) -> PauseKlaviyoPayload | None:
        """Pause."""
        return await payload(klaviyo_mutations.pause, info, input, klaviyo=None)

    @strawberry.mutation(
        directives=[KLAVIYO], description="Go on. What was tried before has its 72 hours anew; what runs goes on."
    )
    async def resume_klaviyo(
        self, info: Info, input: ResumeKlaviyoInput | None = strawberry.UNSET
    ) -> ResumeKlaviyoPayload | None:
        """Resume."""
        return await payload(klaviyo_mutations.resume, info, input or None, klaviyo=None)

    @strawberry.mutation(
        directives=[KLAVIYO, MANY],
        description="Send what is DEAD again, by id, by filter, or all of it: at most 10,000 a call, the oldest first. A profile goes "
        "out as its contact is now.",
    )
    async def replay_deliveries(self, info: Info, input: ReplayDeliveriesInput) -> ReplayDeliveriesPayload | None:
        """Replay."""
        return await payload(klaviyo_mutations.replay, info, input, replayed=0)

    @strawberry.mutation(
        directives=[KLAVIYO], description="Send the contact's profile as it is now, whatever Klaviyo has heard of it."
    )
    async def sync_contact(self, info: Info, input: SyncContactInput) -> SyncContactPayload | None:
        """Send one profile."""
        return await payload(klaviyo_mutations.sync_contact, info, input, klaviyo=None)

    @strawberry.mutation(
        directives=[KLAVIYO],
        description="Tell Klaviyo history, behind what happens now; workers go on with it whatever is killed. One at a time.",
    )
    async def start_klaviyo_backfill(
        self, info: Info, input: StartKlaviyoBackfillInput
    ) -> StartKlaviyoBackfillPayload | None:
        """Start a backfill."""
        return await payload(klaviyo_mutations.start_backfill, info, input, backfill=None)

    @strawberry.mutation(
        directives=[KLAVIYO],
        description="Queue nothing more of it until it is resumed; what waits already (2,000 deliveries at most) goes out.",
    )
    async def pause_klaviyo_backfill(
        self, info: Info, input: PauseKlaviyoBackfillInput
    ) -> PauseKlaviyoBackfillPayload | None:
        """Pause a backfill."""
        return await payload(klaviyo_mutations.pause_backfill, info, input, backfill=None)

    @strawberry.mutation(directives=[KLAVIYO], description="Go on where it was.")
    async def resume_klaviyo_backfill(
        self, info: Info, input: ResumeKlaviyoBackfillInput
    ) -> ResumeKlaviyoBackfillPayload | None:
        """Resume a backfill."""
        return await payload(klaviyo_mutations.resume_backfill, info, input, backfill=None)

    @strawberry.mutation(
        directives=[KLAVIYO], description="End it; what waits already (2,000 deliveries at most) goes out."
    )
    async def cancel_klaviyo_backfill(
        self, info: Info, input: CancelKlaviyoBackfillInput
    ) -> CancelKlaviyoBackfillPayload | None:
        """Cancel a backfill."""
        return await payload(klaviyo_mutations.cancel_backfill, info, input, backfill=None)
