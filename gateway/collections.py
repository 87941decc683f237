"""The collections that the store does not declare itself: those of each destination.

Beside the runtime, since commands that need only the database start without the schema."""

from typing import Any

from gateway.destinations.klaviyo import repository as klaviyo
from gateway.store.repositories import Repository

DESTINATION_REPOSITORIES: tuple[type[Repository[Any]], ...] = klaviyo.REPOSITORIES
