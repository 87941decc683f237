"""The store of a workspace: nothing of it is forgotten where indexes are built and workspaces are emptied."""

import hashlib
from typing import Any

import orjson

from gateway.collections import DESTINATION_REPOSITORIES
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.store.migrations import MIGRATIONS
from gateway.store.repositories import Repository
from gateway.store.workspace_store import REPOSITORIES, WorkspaceStore


def test_every_repository_is_built_and_emptied_with_its_workspace() -> None:
    nothing: Any = None
    opened = [one for one in vars(WorkspaceStore(nothing, "wsp_1", nothing)).values() if isinstance(one, Repository)]
    assert {type(one).COLLECTION for one in opened} == {repository.COLLECTION for repository in REPOSITORIES}
    assert [one.COLLECTION for one in (*REPOSITORIES, *DESTINATION_REPOSITORIES) if not one.INDEXES] == []


def test_every_repository_of_a_destination_is_declared() -> None:
    nothing: Any = None
    klaviyo = KlaviyoStore(WorkspaceStore(nothing, "wsp_1", nothing))
    opened = [one for one in vars(klaviyo).values() if isinstance(one, Repository) and one is not klaviyo.changes]
    assert {type(one) for one in opened} == set(DESTINATION_REPOSITORIES)


def test_a_changed_index_comes_with_a_migration() -> None:
    """`serve` starts where no migration is pending: a new index without one would be missing on databases in use."""
    indexes = sorted(
        orjson.dumps([one.COLLECTION, [index.document for index in one.INDEXES]], default=repr)
        for one in (*REPOSITORIES, *DESTINATION_REPOSITORIES)
    )
    newest = max(migration.number for migration in MIGRATIONS)
    assert (newest, hashlib.sha256(b"".join(indexes)).hexdigest()[:12]) == (8, "3ca2af2983e4")
