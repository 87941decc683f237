"""The fields of a contact: one row each, which drives upsert, merge, import, export, filters, profiles and templates."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto

from gateway.core.text_rules import public_name

MAX_TEXT_LENGTH = 1000
YEARS = 100  # how old the times of a contact may be
LOCATION_PARTS = ("city", "region", "country")


class FieldKind(StrEnum):
    """What the values of a field are, and so how they are checked, read from files and shown."""

    KEY = auto()  # one key of the contact
    KEYS = auto()
    ROLE = auto()
    TEXT = auto()
    URL = auto()
    TIME = auto()
    FLAG = auto()
    COUNT = auto()
    TAGS = auto()
    LOCATION = auto()
    ATTRIBUTES = auto()


class MergeRule(StrEnum):
    OWN = auto()  # its own value
    FILL = auto()  # its own, or else the other's
    UNION = auto()  # both, up to the limit
    EITHER = auto()  # true if either is
    GREATEST = auto()  # the greater number or the later time
    EMAIL = auto()  # the other's e-mail if it has none and nobody else needs it
    WITH_EMAIL = auto()  # the other's if it takes over the e-mail


@dataclass(frozen=True, slots=True)
class ContactField:
    """One field, by its stored name; the API and files have it in camelCase.

    `default`: the value of a new contact (None: absent). `stated`: upsertContact sets it. `visible`: its change is worth
    a change event. `logged`: change events have it before and after. `filters`: the names in ContactFilter that compare
    it; a stored contact is indexed by them. `in_templates`: messages may read it. `profile_property`: its name in the
    profile that a destination keeps of the contact; names and addresses have places of their own there.
    """

    name: str
    kind: FieldKind
    merge: MergeRule = MergeRule.FILL
    default: Callable[[], object] | None = None
    stated: bool = True
    visible: bool = True
    logged: bool = False
    filters: tuple[str, ...] = ()
    in_templates: bool = False
    profile_property: str | None = None

    @property
    def api_name(self) -> str:
        """The name in GraphQL and in files."""
        return public_name(self.name)

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns in exported files."""
        if self.kind is FieldKind.LOCATION:
            return tuple(f"{self.api_name}.{part}" for part in LOCATION_PARTS)
        return (self.api_name,)


CONTACT_FIELDS: tuple[ContactField, ...] = (
    ContactField("external_id", FieldKind.KEY, MergeRule.OWN, logged=True, filters=("external_id",), in_templates=True),
    ContactField("email", FieldKind.KEY, MergeRule.EMAIL, logged=True, filters=("email",), in_templates=True),
    ContactField("anonymous_ids", FieldKind.KEYS, MergeRule.UNION, default=list, stated=False),
    ContactField(
        "role",
        FieldKind.ROLE,
        MergeRule.OWN,
        logged=True,
        filters=("role",),
        in_templates=True,
        profile_property="Contact role",
    ),
    ContactField("phone", FieldKind.TEXT, logged=True, filters=("phone",), in_templates=True),
    ContactField("name", FieldKind.TEXT, logged=True, filters=("name",), in_templates=True),
    ContactField("first_name", FieldKind.TEXT, in_templates=True),
    ContactField("last_name", FieldKind.TEXT, in_templates=True),
    ContactField("avatar_url", FieldKind.URL),
    ContactField("location", FieldKind.LOCATION, logged=True, filters=("country", "city"), in_templates=True),
    ContactField(
        "tags",
        FieldKind.TAGS,
        MergeRule.UNION,
        default=list,
        logged=True,
        filters=("tag",),
        in_templates=True,
        profile_property="Intercom_tags",
    ),
    ContactField(
        "custom_attributes",
        FieldKind.ATTRIBUTES,
        MergeRule.UNION,
        default=dict,
        logged=True,
        filters=("custom_attribute",),
        in_templates=True,
        profile_property="Intercom_custom_attributes",
    ),
    ContactField("created_at", FieldKind.TIME, MergeRule.OWN, stated=False, filters=("created_at",), in_templates=True),
    ContactField("updated_at", FieldKind.TIME, MergeRule.OWN, stated=False, visible=False),
    ContactField("signed_up_at", FieldKind.TIME, logged=True, filters=("signed_up_at",), in_templates=True),
    ContactField(
        "last_seen_at", FieldKind.TIME, MergeRule.GREATEST, visible=False, filters=("last_seen_at",), in_templates=True
    ),
    ContactField(
        "unsubscribed_from_emails",
        FieldKind.FLAG,
        MergeRule.EITHER,
        default=bool,
        profile_property="Intercom_unsubscribed_from_emails",
    ),
    ContactField(
        "has_hard_bounced",
        FieldKind.FLAG,
        MergeRule.WITH_EMAIL,
        default=bool,
        profile_property="Intercom_has_hard_bounced",
    ),
    ContactField(
        "marked_email_as_spam",
        FieldKind.FLAG,
        MergeRule.WITH_EMAIL,
        default=bool,
        profile_property="Intercom_marked_email_as_spam",
    ),
    ContactField(
        "opted_out_subscription_types_count",
        FieldKind.COUNT,
        MergeRule.GREATEST,
        default=int,
        profile_property="Intercom_opted_out_subscription_types_count",
    ),
)
FIELD_BY_NAME = {field.name: field for field in CONTACT_FIELDS}
FIELD_BY_FILTER = {name: field for field in CONTACT_FIELDS for name in field.filters}
STATED_FIELDS = tuple(field for field in CONTACT_FIELDS if field.stated and field.kind is not FieldKind.KEY)
