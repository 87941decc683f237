"""What sets messages off: events as they are tracked, and segments as they are entered, in the transaction of either."""

from collections.abc import Iterable, Sequence

from gateway.caches import Cache, CacheBudget, data_bytes
from gateway.core.clock import Clock
from gateway.domain.contacts.contacts import Document
from gateway.domain.filters.segments import ENTERED
from gateway.domain.messages.triggers import ContactActivity, RuleIndex, TriggerPlan, message_timer
from gateway.store.driver import Session
from gateway.store.workspace_store import WorkspaceStore

_WORKSPACES_REMEMBERED = 10_000
_REMEMBERED_SECONDS = 1.0
_READ_TWICE = 2  # a rule is kept as it is stored, and what it tests of an event besides


class TriggerService:
    """Writes the timers that become messages; it remembers the rules of a workspace for a second."""

    def __init__(self, clock: Clock, caches: CacheBudget | None = None) -> None:
        self._clock = clock
        self._rules: Cache[str, RuleIndex] = Cache(
            caches or CacheBudget(), lambda *_: 0, _WORKSPACES_REMEMBERED, _REMEMBERED_SECONDS
        )

    async def rules(self, store: WorkspaceStore) -> RuleIndex:
        """The enabled rules of a workspace, as they were a second ago at most."""
        found = self._rules.get(store.workspace_id)
        if found is None:
            rows = await store.message_rules.in_force()
            found = RuleIndex(rows)
            self._rules.put(store.workspace_id, found).add(_READ_TWICE * data_bytes(rows))
        return found

    def forget(self, workspace_id: str) -> None:
        """Read the rules of that workspace anew, for one was saved or deleted here."""
        self._rules.pop(workspace_id)

    async def write(self, store: WorkspaceStore, live: Sequence[ContactActivity], session: Session) -> None:
        """Write what these deeds set off, once their summaries are written in this transaction."""
        if not live:
            return
        summaries = await store.summaries.by_ids([deeds.summary_id for deeds in live], session)
        known = await store.rule_memories.by_ids([id_ for deeds in live for id_ in deeds.progress_ids], session)
        firings = TriggerPlan(self._clock())
        for deeds in live:
            firings.plan(deeds, summaries[deeds.summary_id], known)
        await store.rule_memories.save(firings.progress, session)
        await store.timers.set(firings.timers, session)

    async def entered(self, store: WorkspaceStore, lines: Iterable[Document], session: Session) -> None:
        """Write what is set off by contacts that entered segments, as these lines of the journal tell."""
        rules = await self.rules(store)
        timers = [
            message_timer(rule, line["contact_id"], line["at"], line["_id"])
            for line in lines
            if line["kind"] == ENTERED and not line["imported"]
            for rule in rules.by_segment.get(line["segment_id"], ())
        ]
        await store.timers.set(timers, session)
