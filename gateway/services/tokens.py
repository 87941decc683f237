"""Creates short-lived credentials for the browsers of contacts and admins."""

from datetime import datetime, timedelta

from gateway.core.clock import Clock
from gateway.domain.contacts.contacts import IdentityKind, check_ref
from gateway.domain.contacts.documents import ContactRefFields
from gateway.domain.tokens import Grant, MadeFrom, TokenSigner, check_lifetime
from gateway.errors import error_path
from gateway.services.contacts.contacts import ContactService
from gateway.services.support.teammates import TeammateService


class TokenService:
    """Creates tokens. They are not stored: they end at their expiry, with their subject, or with the secret."""

    def __init__(self, contacts: ContactService, teammates: TeammateService, signer: TokenSigner, clock: Clock) -> None:
        self._contacts = contacts
        self._teammates = teammates
        self._signer = signer
        self._clock = clock

    async def create_for_contact(
        self, workspace_id: str, reference: ContactRefFields, seconds: int
    ) -> tuple[str, datetime]:
        """A token of the referenced contact, and when it expires. An unknown contact is created."""
        self._signer.check_configured()
        lifetime = check_lifetime(seconds)
        with error_path("contact"):
            ref = check_ref(reference)
        contact = await self._contacts.resolve(workspace_id, ref)
        strongest, _ = ref.keys()[0]
        made_from = MadeFrom.ANONYMOUS if strongest is IdentityKind.ANONYMOUS else MadeFrom.KNOWN
        return self._signed(workspace_id, contact["_id"], made_from, lifetime)

    async def create_for_admin(self, workspace_id: str, admin_id: str, seconds: int) -> tuple[str, datetime]:
        self._signer.check_configured()
        lifetime = check_lifetime(seconds)
        admin = await self._teammates.active_admin(workspace_id, admin_id, ("adminId",))
        return self._signed(workspace_id, admin["_id"], MadeFrom.KNOWN, lifetime)

    def _signed(
        self, workspace_id: str, subject_id: str, made_from: MadeFrom, lifetime: timedelta
    ) -> tuple[str, datetime]:
        now = self._clock().replace(microsecond=0)
        grant = Grant(workspace_id, subject_id, made_from, now + lifetime)
        return self._signer.sign(grant, now), grant.expires_at
