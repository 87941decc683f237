"""Ids: a type prefix and a ULID, so that ids sort by time."""

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from ulid import ULID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_RANDOM_BYTES = 10
_LATEST = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND


class Prefix(StrEnum):
    WORKSPACE = "wsp_"
    KEY = "key_"
    CONTACT = "con_"
    EVENT = "evt_"
    SUMMARY = "sum_"
    DEFINITION = "def_"
    VALUE = "val_"
    CHANGE = "chg_"
    BUILD = "bld_"
    BEARER = "tok_"
    DELIVERY = "dlv_"
    LANE = "lan_"
    SYNC = "kla_"
    METRIC = "met_"
    BACKFILL = "bkf_"
    TIMER = "tmr_"
    RULE = "rul_"
    FIRING = "fir_"
    CAMPAIGN = "mls_"
    ADMIN = "adm_"
    TEAM = "tea_"
    TICKET = "tkt_"
    TICKET_PART = "tpt_"
    CONVERSATION = "cnv_"
    CONVERSATION_PART = "prt_"
    TICKET_TYPE = "tty_"
    SEGMENT = "seg_"
    SEGMENT_MEMBER = "smb_"


class Minter:
    """Creates ids. `entropy(n)` returns n random bytes."""

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._entropy = entropy

    def mint(self, prefix: Prefix, at: datetime) -> str:
        """A new id that sorts at `at`."""
        return prefix + str(ULID(_timestamp(at) + self._entropy(_RANDOM_BYTES)))


def lowest_id(prefix: Prefix, at: datetime) -> str:
    """A bound: ids minted before `at` sort below it, all others do not."""
    return prefix + str(ULID(_timestamp(at) + bytes(_RANDOM_BYTES)))


def derived_id(prefix: Prefix, *parts: str) -> str:
    """A deterministic id of these parts."""
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return prefix + str(ULID(digest))


def id_time(id_: str) -> datetime:
    return _EPOCH + min(ULID.from_str(id_[4:30]).milliseconds, _LATEST) * _MILLISECOND


def prefix_of(id_: str) -> Prefix | None:
    """The prefix of a well-formed id; None for any other text."""
    try:
        ULID.from_str(id_[4:])
        return Prefix(id_[:4])
    except ValueError:
        return None


def _timestamp(at: datetime) -> bytes:
    milliseconds = (at - _EPOCH) // _MILLISECOND
    return max(0, min(milliseconds, 2**48 - 1)).to_bytes(6, "big")
