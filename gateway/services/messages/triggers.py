"""Triggers messages when events are tracked and segments are entered, in the same transaction."""

from collections.abc import Iterable, Sequence

from gateway.caches import Cache, CacheBudget, data_bytes
from gateway.core.clock import Clock
from gateway.domain.change_kinds import ChangeKind, MembershipChanged, kind_of
from gateway.domain.messages.triggers import ContactActivity, RuleIndex, TriggerPlan, message_timer
from gateway.store.driver import Session
from gateway.store.workspace_store import WorkspaceStore

_WORKSPACES_REMEMBERED = 10_000
_REMEMBERED_SECONDS = 1.0
_READ_TWICE = 2  # the cache holds each rule as stored and its parsed conditions


class TriggerService:
    """Writes the timers of messages. Caches the rules of a workspace for a second."""

    def __init__(self, clock: Clock, caches: CacheBudget | None = None) -> None:
        self._clock = clock
        self._rules: Cache[str, RuleIndex] = Cache(
            caches or CacheBudget(), lambda *_: 0, _WORKSPACES_REMEMBERED, _REMEMBERED_SECONDS
        )

    async def rules(self, store: WorkspaceStore) -> RuleIndex:
        """Return the enabled rules of a workspace, at most a second old."""
        rules = self._rules.get(store.workspace_id)
        if rules is None:
            rows = await store.message_rules.in_force()
            rules = RuleIndex(rows)
            self._rules.put(store.workspace_id, rules).add(_READ_TWICE * data_bytes(rows))
        return rules

    def forget(self, workspace_id: str) -> None:
        """Drop the cached rules of a workspace."""
        self._rules.pop(workspace_id)

    async def write(self, store: WorkspaceStore, activities: Sequence[ContactActivity], session: Session) -> None:
        """Write the timers that these activities trigger, after their summaries, in the same transaction."""
        if not activities:
            return
        summaries = await store.summaries.by_ids([activity.summary_id for activity in activities], session)
        rule_states = await store.rule_states.by_ids(
            [id_ for activity in activities for id_ in activity.progress_ids], session
        )
        plan = TriggerPlan(self._clock())
        for activity in activities:
            plan.plan(activity, summaries[activity.summary_id], rule_states)
        await store.rule_states.save(plan.progress, session)
        await store.timers.set(plan.timers, session)

    async def entered(self, store: WorkspaceStore, changes: Iterable[MembershipChanged], session: Session) -> None:
        """Write the timers for contacts that entered segments."""
        rules = await self.rules(store)
        timers = [
            message_timer(rule, change["contact_id"], change["at"], change["_id"])
            for change in changes
            if kind_of(change) is ChangeKind.CONTACT_ENTERED_SEGMENT and not change["imported"]
            for rule in rules.by_segment.get(change["segment_id"], ())
        ]
        await store.timers.set(timers, session)
