"""Saves, deletes and previews message rules; starts campaigns."""

from datetime import datetime, timedelta
from typing import TypedDict

from gateway.core.clock import Clock
from gateway.core.idempotency import claim, request_of
from gateway.core.ids import Minter, Prefix
from gateway.core.timers import timer_of
from gateway.domain.contacts.contacts import unknown_contact
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.events.documents import EventDocument
from gateway.domain.events.events import check_event_name, check_idempotency_key, summary_id_of
from gateway.domain.events.retention import Retention
from gateway.domain.filters.conditions import check_metadata_filter, has_metadata, parse_filter
from gateway.domain.filters.documents import StoredFilter
from gateway.domain.filters.segments import stored_filter
from gateway.domain.messages.documents import CampaignDocument, CheckedRule, MessageRuleDocument
from gateway.domain.messages.rules import (
    CAMPAIGN,
    MAX_RULES,
    PreviewMessage,
    SaveMessageRule,
    SendMessage,
    check_metadata,
    check_rule,
    progress_since,
    segments_named,
)
from gateway.domain.messages.templates import TemplateData, TemplateError, Templates, template_data
from gateway.errors import BadRequestError, ErrorCode, UserProblem
from gateway.services.messages.triggers import TriggerService
from gateway.settings import Settings
from gateway.store.driver import Session
from gateway.store.filters.fact_loader import contact_matches
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

SEND = "sendMessage"
_FORGET_DELAY = timedelta(minutes=1)  # after messages in flight have ended
FORGET_RULE = "forgotten rule"  # the kind of timer that erases the state of a deleted rule


class Preview(TypedDict):
    """A rendered message, and whether a rule would send it now."""

    subject: str | None
    body: str
    would_send: bool


class MessageService:
    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        minter: Minter,
        triggers: TriggerService,
        templates: Templates,
        retention: Retention,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._minter = minter
        self._triggers = triggers
        self._templates = templates
        self._retention = retention

    async def save(self, workspace_id: str, command: SaveMessageRule) -> MessageRuleDocument:
        new_id = self._minter.mint(Prefix.RULE, self._clock())

        async def attempt(_: int) -> MessageRuleDocument:
            store, now = self._store.open(workspace_id), self._clock()
            turn, rows = await store.segments.next_turn(), await store.message_rules.all()
            before = next((row for row in rows if row["_id"] == (command.id or new_id)), None)
            if before is not None and command.id is None:
                return before  # stored by an attempt whose response was lost
            _check_rule_id(command.id, before, rows)
            checked = check_rule(command, before, self._settings, self._templates)
            self._check_retention(checked["audience"])
            await _check_segments(store, checked)
            rule: MessageRuleDocument = {
                **checked,
                "since": progress_since(checked, before, now),
                "updated_at": now,
                "workspace_id": workspace_id,
                "_id": new_id if before is None else before["_id"],
                "created_at": now if before is None else before["created_at"],
                "version": 1 if before is None else before["version"] + 1,
            }

            async def write(session: Session) -> None:
                await store.segments.turn(turn, session)  # so that no segment of this rule is deleted meanwhile
                if before is None:
                    await store.message_rules.insert(rule, session)
                else:
                    await store.message_rules.replace(rule, before, session)

            await store.database.transaction(write)
            return rule

        saved = await retry_transaction(attempt)
        self._triggers.forget(workspace_id)
        return saved

    async def delete(self, workspace_id: str, rule_id: str) -> str:
        """Delete the rule and return its id; its pending messages are never sent."""
        store, now = self._store.open(workspace_id), self._clock()
        forget_timer = timer_of(workspace_id, FORGET_RULE, rule_id, now + _FORGET_DELAY)

        async def attempt(number: int) -> str:
            async def write(session: Session) -> None:
                if not await store.message_rules.remove(rule_id, session):
                    raise _unknown_rule(rule_id)
                await store.timers.set([forget_timer], session)

            if number > 1 and await store.timers.by_ids([forget_timer["_id"]]):
                return rule_id
            await store.database.transaction(write)
            return rule_id

        deleted = await retry_transaction(attempt)
        self._triggers.forget(workspace_id)
        return deleted

    async def preview(self, workspace_id: str, command: PreviewMessage) -> Preview:
        """Render the message as the contact would get it now; store nothing."""
        store, now, name = self._store.open(workspace_id), self._clock(), command.event
        if name is not None:
            check_event_name(name, self._settings, ("event",))
        self._check_templates(command, event=name is not None)
        audience = None if command.audience is None else stored_filter(command.audience, "audience")
        self._check_retention(audience)
        metadata_conditions = check_metadata_filter(check_metadata(command.metadata), "metadata")
        contact = await store.contacts.of_id(command.contact_id)
        if contact is None:
            raise unknown_contact(command.contact_id, "contactId")
        event = None if name is None else await store.events.last_of(contact, name, now)
        data = await _data(store, contact, event)
        subject = self._render(command.subject, "subject", data) if command.subject else None
        body = self._render(command.body, "body", data)
        would_send = (
            bool(body)
            and (name is None or event is not None)
            and (event is None or has_metadata(event, metadata_conditions, now))
            and (audience is None or await contact_matches(store, parse_filter(audience), contact, now))
        )
        return {"subject": subject, "body": body, "would_send": would_send}

    async def send(self, workspace_id: str, command: SendMessage) -> int:
        """Start a campaign to the members of a segment; return the number of recipients."""
        self._check_templates(command, event=False)
        key = check_idempotency_key(command.idempotency_key)
        key_claim = claim(SEND, key, request_of(command))
        new_id = self._minter.mint(Prefix.CAMPAIGN, self._clock())

        async def attempt(number: int) -> int:
            store, now = self._store.open(workspace_id), self._clock()
            if key_claim and (first_result := await store.idempotency_keys.result_of(key_claim)) is not None:
                return int(first_result["recipients"])
            if number > 1 and (stored := await store.campaigns.get(new_id)) is not None:
                return stored["recipients"]
            turn = await store.segments.next_turn()
            campaign = await self._new_campaign(store, command, new_id, now)

            async def write(session: Session) -> None:
                await store.segments.turn(turn, session)
                await store.campaigns.insert(campaign, session)
                await store.timers.set([timer_of(workspace_id, CAMPAIGN, new_id, now, after=None)], session)
                if key_claim:
                    result = {"recipients": campaign["recipients"]}
                    await store.idempotency_keys.keep(key_claim, result, now, session)

            await store.database.transaction(write)
            return campaign["recipients"]

        return await retry_transaction(attempt)

    def _check_templates(self, command: PreviewMessage | SendMessage, *, event: bool) -> None:
        if command.subject is not None:
            self._templates.check(command.subject, ("subject",), event=event)
        self._templates.check(command.body, ("body",), event=event)

    def _check_retention(self, audience: StoredFilter | None) -> None:
        if audience is not None:
            try:
                self._retention.check_saved(parse_filter(audience, "audience"), self._clock())
            except BadRequestError as error:
                raise UserProblem(ErrorCode.INVALID, error.message, ("audience",)) from None

    async def _new_campaign(
        self, store: WorkspaceStore, command: SendMessage, new_id: str, now: datetime
    ) -> CampaignDocument:
        segment = await store.segments.get(command.segment_id)
        if segment is None:
            raise _unknown_segment(command.segment_id, "segmentId")
        if not segment["complete"]:
            message = (
                f"The members of '{segment['name']}' are still being computed, because it was just saved: try again."
            )
            raise UserProblem(ErrorCode.CONFLICT, message, ("segmentId",))
        return {
            "_id": new_id,
            "workspace_id": store.workspace_id,
            "segment_id": segment["_id"],
            "subject": command.subject,
            "body": command.body,
            "recipients": await store.members.count(segment["_id"], 2**31 - 1),
            "created_at": now,
        }

    def _render(self, text: str, field: str, data: TemplateData) -> str:
        try:
            return self._templates.render(text, data)
        except TemplateError as error:
            raise UserProblem(
                ErrorCode.INVALID, f"The {field} cannot be rendered for this contact: {error}.", (field,)
            ) from None


async def _data(store: WorkspaceStore, contact: ContactDocument, event: EventDocument | None) -> TemplateData:
    if event is None:
        return template_data(contact, None)
    id_ = summary_id_of(store.workspace_id, contact["_id"], event["name"])
    summary = await store.summaries.get(id_)
    return template_data(contact, event, 0 if summary is None else summary["count"])


async def _check_segments(store: WorkspaceStore, rule: CheckedRule) -> None:
    segment_ids = {row["_id"] for row in await store.segments.all()}
    for segment_id in sorted(segments_named(rule) - segment_ids):
        is_trigger = segment_id == rule["segment_id"]
        raise _unknown_segment(segment_id, *(("trigger", "enteredSegment") if is_trigger else ("audience",)))


def _check_rule_id(rule_id: str | None, before: MessageRuleDocument | None, rows: list[MessageRuleDocument]) -> None:
    if rule_id is not None and before is None:
        raise _unknown_rule(rule_id)
    if rule_id is None and len(rows) >= MAX_RULES:
        message = f"The workspace has {len(rows)} message rules, which is the limit of {MAX_RULES}: delete one first."
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message)


def _unknown_rule(rule_id: str) -> UserProblem:
    message = f"There is no message rule with the id '{rule_id}': it was deleted or never existed."
    return UserProblem(ErrorCode.NOT_FOUND, message, ("id",))


def _unknown_segment(segment_id: str, *path: str) -> UserProblem:
    message = f"There is no segment with the id '{segment_id}': it was deleted or never existed."
    return UserProblem(ErrorCode.NOT_FOUND, message, path)
