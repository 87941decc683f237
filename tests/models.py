"""Plain models of a conversation and of a ticket: what people would write down who watch one."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass
class ConversationModel:
    """What people would write down who watch a conversation: everything happens at its time."""

    now: datetime
    state: str = "OPEN"
    waiting: datetime | None = None
    asked: datetime | None = None
    first_reply: datetime | None = None
    last: dict[str, datetime] = field(default_factory=dict)
    closed: datetime | None = None
    wakes: datetime | None = None
    history: list[str] = field(default_factory=list)
    assignee: str | None = None
    score: int | None = None
    read: dict[str, bool] = field(default_factory=lambda: {"admin": False, "contact": False})
    tags: set[str] = field(default_factory=set)
    sla: str | None = None
    due: datetime | None = None
    targets: tuple[int | None, int | None] = (None, None)

    def pass_time(self, minutes: int) -> None:
        """Time passes, and what is due happens when it is due: never in the second in which somebody acts."""
        self.now += timedelta(minutes=minutes, seconds=7)
        moments = [(self.wakes, "wakes")] + ([(self.due, "missed")] if self.sla == "ACTIVE" else [])
        for _, what in sorted((at, what) for at, what in moments if at is not None and at <= self.now):
            if what == "wakes":
                self.state, self.wakes = "OPEN", None
                self.history.append("UNSNOOZE")
            else:
                self.say("MISSED")

    def say(self, status: str) -> None:
        if self.sla != status:
            self.sla = status
            self.history.append(f"SLA {status}")

    def speak(self, who: str, *, waits: bool = True) -> None:
        """Somebody says something to the other side."""
        if who == "automation":
            self.read["contact"] = False
            return
        self.last[who] = self.now
        self.read = {"admin": who == "admin", "contact": who == "contact"}
        if who == "contact":
            self.asked = self.asked or self.now
            if waits and self.waiting is None:
                self.waiting = self.now
                minutes = self.targets[0 if self.first_reply is None else 1]
                if self.sla in ("ACTIVE", "HIT") and self.due is None and minutes:
                    self.due = self.now + timedelta(minutes=minutes)
                    self.say("ACTIVE")
            return
        self.waiting = None
        if self.asked is not None:
            self.first_reply = self.first_reply or self.now
        if self.due is not None and self.sla == "ACTIVE":
            self.say("HIT")
        self.due = None

    def open(self) -> None:
        self.state, self.wakes = "OPEN", None
        self.history.append("OPEN")

    def comment(self, who: str) -> None:
        self.history.append("COMMENT")
        if who == "contact" and self.state != "OPEN":
            self.open()
        self.speak(who)

    def close(self, who: str, body: bool) -> None:
        self.history.append("CLOSE")
        if body:
            self.speak(who, waits=False)
        self.state, self.closed, self.wakes, self.waiting = "CLOSED", self.now, None, None
        if self.due is not None and self.sla == "ACTIVE":
            self.say("CANCELLED")
        self.due = None

    def promise(self, first: int | None, following: int | None) -> None:
        self.targets, self.sla, self.due = (first, following), "ACTIVE", None
        self.history.append("SLA ACTIVE")
        minutes = first if self.first_reply is None else following
        if self.waiting is not None and minutes:
            self.due = self.now + timedelta(minutes=minutes)


@dataclass
class TicketModel:
    """A ticket: everything happens at its time."""

    now: datetime
    state: str = "SUBMITTED"
    until: datetime | None = None
    history: list[str] = field(default_factory=list)

    def pass_time(self, minutes: int) -> None:
        """Time passes, and whose time is up wakes: never in the second in which somebody acts."""
        self.now += timedelta(minutes=minutes, seconds=7)
        if self.until is not None and self.until <= self.now:
            self.wake()

    def wake(self) -> None:
        if self.until is not None:
            self.until = None
            self.history.append("UNSNOOZE")

    def reply(self, who: str, *, note: bool) -> None:
        self.history.append("NOTE" if note else "COMMENT")
        if who == "contact":
            self.state = {"RESOLVED": "IN_PROGRESS", "WAITING_ON_CUSTOMER": "IN_PROGRESS"}.get(self.state, self.state)
            self.wake()

    def move(self, state: str) -> bool:
        """Whether it may go to that state, and does."""
        legal = state != self.state and (self.state, state) != ("RESOLVED", "WAITING_ON_CUSTOMER")
        if legal:
            self.history.append("STATE")
            self.state = state
            self.until = None if state == "RESOLVED" else self.until
        return legal

    def snooze(self, until: datetime) -> bool:
        """Whether it may be put aside, and is."""
        if self.state != "RESOLVED" and self.until != until:
            self.until = until
            self.history.append("SNOOZE")
        return self.state != "RESOLVED"
