"""Which contacts have a profile in the connected account, so that a backfill sends none."""

from collections.abc import Sequence
from datetime import datetime

from gateway.core.ids import id_time
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.outbox.deliveries import Queue, lane_id_of
from gateway.outbox.documents import LaneDocument
from gateway.store.driver import Session


async def with_live_profile(store: KlaviyoStore, contact_ids: Sequence[str], session: Session = None) -> set[str]:
    """The ids of contacts that have, or will get, a live profile in the connected account."""
    ids = {lane_id_of(store.workspace_id, id_, Queue.LIVE): id_ for id_ in contact_ids}
    connected_at = await store.connections.connected_at()
    lanes = [
        lane
        for lane in (await store.lanes.by_ids(list(ids), session)).values()
        if lane.get("profile_delivery_id") is not None
    ]
    newest = await store.deliveries.by_ids([lane["profile_delivery_id"] for lane in lanes], session)
    waiting = {id_ for id_, row in newest.items() if row.get("open") is not None}
    return {
        ids[lane["_id"]]
        for lane in lanes
        if was_delivered(lane, connected_at) or lane["profile_delivery_id"] in waiting
    }


def was_delivered(lane: LaneDocument, connected_at: datetime) -> bool:
    """Whether the account connected now has the contact's profile. `lane` is the contact's live lane.

    Only a success response sets `profile_id`: log mode and refusals do not.
    """
    id_ = lane.get("profile_delivery_id")
    return id_ is not None and id_time(id_) >= connected_at and lane.get("profile_id") is not None
