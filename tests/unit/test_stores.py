"""The store of a workspace: nothing of it is forgotten where indexes are built and workspaces are emptied."""

from typing import Any

from gateway.collections import DESTINATIONS
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.store.repositories import Repository
from gateway.store.workspace_store import REPOSITORIES, WorkspaceStore


def test_every_repository_is_built_and_emptied_with_its_workspace() -> None:
    nothing: Any = None
    opened = [one for one in vars(WorkspaceStore(nothing, "wsp_1", nothing)).values() if isinstance(one, Repository)]
    assert {type(one).COLLECTION for one in opened} == {repository.COLLECTION for repository in REPOSITORIES}
    assert [one.COLLECTION for one in (*REPOSITORIES, *DESTINATIONS) if not one.INDEXES] == []


def test_every_repository_of_a_destination_is_declared() -> None:
    nothing: Any = None
    klaviyo = KlaviyoStore(WorkspaceStore(nothing, "wsp_1", nothing))
    opened = [one for one in vars(klaviyo).values() if isinstance(one, Repository) and one is not klaviyo.changes]
    assert {type(one) for one in opened} == set(DESTINATIONS)
