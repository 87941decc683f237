// What a new visitor finds: people with what they did, what happens now, and something to do.
const PEOPLE = `# What people did, how often, and last. Ctrl-Enter runs it.
query People {
  contacts(first: 10) {
    nodes {
      displayName
      role
      lastSeenAt
      eventSummaries(first: 5) {
        nodes { name count firstAt lastAt }
      }
      events(first: 3) {
        nodes {
          name
          occurredAt
          metadata {
            key
            ... on TextMetadata { text }
            ... on NumberMetadata { number }
            ... on MoneyMetadata { formatted }
            ... on LinkMetadata { url label }
            ... on DateMetadata { date }
          }
        }
      }
    }
  }
}
`;

const LIVE = `# The newest event from now on. The button stops it again.
subscription Live {
  eventTracked {
    kind
    event {
      name
      occurredAt
      contact { displayName }
    }
  }
}
`;

const TRACK = `# The contact is created if nobody knows it.
mutation Track {
  trackEvent(input: { contact: { externalId: "me" }, name: "tried graphiql", metadata: { price: { amount: 4999, currency: "EUR" } } }) {
    event { id occurredAt }
    summary { count firstAt }
    userErrors { code message path }
  }
}
`;

export const TABS = [PEOPLE, LIVE, TRACK].map((query) => ({ query }));
