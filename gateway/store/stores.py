"""The store as the other rooms see it: opened once, and then for one workspace at a time."""

from gateway.store.changes import Changes
from gateway.store.contacts import Contacts
from gateway.store.definitions import EventDefinitions, EventValues
from gateway.store.driver import Database
from gateway.store.events import Events, EventSummaries
from gateway.store.idempotency_keys import IdempotencyKeys
from gateway.store.repositories import Repository
from gateway.store.roll_ups import RollUps
from gateway.store.workspaces import Keys, Workspaces

REPOSITORIES: tuple[type[Repository], ...] = (
    Contacts,
    Events,
    EventSummaries,
    EventDefinitions,
    EventValues,
    Changes,
    IdempotencyKeys,
)


class WorkspaceStore:
    """Every repository of one workspace."""

    def __init__(self, database: Database, workspace_id: str) -> None:
        self.workspace_id = workspace_id
        self.database = database
        self.contacts = Contacts(database, workspace_id)
        self.events = Events(database, workspace_id)
        self.summaries = EventSummaries(database, workspace_id)
        self.definitions = EventDefinitions(database, workspace_id)
        self.values = EventValues(database, workspace_id)
        self.changes = Changes(database, workspace_id)
        self.idempotency_keys = IdempotencyKeys(database, workspace_id)


class Store:
    """The database of this deployment."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.workspaces = Workspaces(database)
        self.keys = Keys(database)
        self.roll_ups = RollUps(database)

    def open(self, workspace_id: str) -> WorkspaceStore:
        """The repositories of one workspace, which see nothing of any other."""
        return WorkspaceStore(self.database, workspace_id)

    async def empty_workspace(self, workspace_id: str) -> int:
        """Delete all that is in a workspace, its keys first; how many documents went."""
        collections = (Keys.COLLECTION, *(repository.COLLECTION for repository in REPOSITORIES))
        return sum(
            [await self.database.delete(collection, {"workspace_id": workspace_id}) for collection in collections]
        )
