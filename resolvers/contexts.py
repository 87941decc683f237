"""What a resolver knows of its operation, and how one level of it is read at once."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from strawberry.dataloader import DataLoader

from gateway.bus.buses import Bus
from gateway.domain.access import Principal, Scope
from gateway.domain.clocks import Clock
from gateway.errors import UnauthenticatedError
from gateway.observability import Metrics
from gateway.services.contacts import ContactService
from gateway.services.events import EventService
from gateway.settings import Settings
from gateway.store.stores import Store, WorkspaceStore

if TYPE_CHECKING:
    from gateway.tracing import Tracing

Document = dict[str, Any]
_READERS = frozenset({Scope.READ})


@dataclass(frozen=True, slots=True)
class Services:
    """What the gateway consists of, as resolvers see it."""

    settings: Settings
    clock: Clock
    store: Store
    events: EventService
    contacts: ContactService
    bus: Bus
    metrics: Metrics
    tracing: "Tracing | None" = None


# One result (or exception) per parent, in their order; `arguments` are the field's own.
Batch = Callable[[Sequence[Any], Any, "Context"], Awaitable[Sequence[Any]]]


@dataclass(slots=True)
class Context:
    """One operation: who asks, and the loaders that live as long as it does."""

    services: Services
    request_id: str
    bearer: Principal | None
    _loaders: dict[Hashable, DataLoader[Any, Any]] = field(default_factory=dict)

    @property
    def principal(self) -> Principal:
        """Who asks; UnauthenticatedError where nobody said."""
        if self.bearer is None:
            raise UnauthenticatedError
        return self.bearer

    @property
    def store(self) -> WorkspaceStore:
        """The repositories of the bearer's workspace."""
        return self.services.store.open(self.principal.workspace_id)

    @property
    def may_read(self) -> bool:
        """Whether a mutation gives back what it changed."""
        return self.principal.may(_READERS)

    def forget(self) -> None:
        """Give up the loaders: the next payload of a subscription has its own."""
        self._loaders.clear()

    async def load(self, batch: Batch, parent: Any, arguments: Any = None) -> Any:
        """The batch function's result for this parent; it is called once for all parents of the level with equal arguments."""
        key = (batch, repr(arguments))
        loader = self._loaders.get(key)
        if loader is None:
            loader = self._loaders[key] = DataLoader(load_fn=partial(_call, batch, arguments, self), cache=False)
        return await loader.load(parent)


async def _call(batch: Batch, arguments: Any, context: Context, parents: list[Any]) -> list[Any]:
    return list(await batch(parents, arguments, context))
