"""What is asked, of the gateway and of everything it is compared with."""

CONTACT_FIELDS = "id externalId role email name phone createdAt lastSeenAt"
# Eight leaves of an event; the gateway's own has five, and three of them are asked for twice.
EVENT_FIELDS = "id name occurredAt receivedAt metadataJson kind: name at: occurredAt received: receivedAt"

PAGE = (
    "query Page($first: Int!, $each: Int!) { contacts(first: $first) { nodes { "
    + CONTACT_FIELDS
    + " events(first: $each) { nodes { "
    + EVENT_FIELDS
    + " } } } } }"
)
ONE = "query One($id: ID!) { contact(by: {id: $id}) { " + CONTACT_FIELDS + " } }"
TYPENAME = "{ __typename }"
TRACK = "mutation Track($input: TrackEventInput!) { trackEvent(input: $input) { duplicate event { id } userErrors { code message } } }"
TRACK_MANY = "mutation TrackMany($events: [TrackEventInput!]!) { trackEvents(input: {events: $events}) { accepted duplicates rejected } }"
