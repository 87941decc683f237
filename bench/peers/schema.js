// The part of the gateway's API that is measured, as a server of Node.js would have it: types, resolvers, a data loader.
import DataLoader from 'dataloader'
import { GraphQLScalarType } from 'graphql'
import { MongoClient } from 'mongodb'

export const typeDefs = `
  scalar DateTime
  scalar JSONObject
  enum ContactRole { USER LEAD VISITOR }
  type Event { id: ID! name: String! occurredAt: DateTime! receivedAt: DateTime! metadataJson: JSONObject! }
  type EventConnection { nodes: [Event!]! }
  type Contact {
    id: ID! externalId: String role: ContactRole! email: String name: String phone: String createdAt: DateTime! lastSeenAt: DateTime
    events(first: Int): EventConnection
  }
  type ContactConnection { nodes: [Contact!]! }
  input ContactKey { id: ID externalId: String }
  type Query {
    contacts(first: Int): ContactConnection
    contact(by: ContactKey!): Contact
  }
`

const scalar = (name, serialize) => new GraphQLScalarType({ name, serialize })

export const resolvers = {
  DateTime: scalar('DateTime', (value) => value.toISOString()),
  JSONObject: scalar('JSONObject', (value) => value),
  Event: {
    id: (row) => row._id,
    occurredAt: (row) => row.occurred_at,
    receivedAt: (row) => row.received_at,
    metadataJson: (row) => row.metadata_json,
  },
  Contact: {
    id: (row) => row._id,
    externalId: (row) => row.external_id,
    createdAt: (row) => row.created_at,
    lastSeenAt: (row) => row.last_seen_at,
    events: async (row, { first }, { events }) => ({ nodes: (await events.load(row._id)).slice(0, first) }),
  },
  Query: {
    contacts: async (_, { first }, { source }) => ({ nodes: await source.contacts(first) }),
    contact: (_, { by }, { source }) => source.one(by.id),
  },
}

const CONTACT = { external_id: 1, role: 1, email: 1, name: 1, phone: 1, created_at: 1, last_seen_at: 1 }
const EVENT = { contact_id: 1, name: 1, occurred_at: 1, received_at: 1, metadata_json: 1 }

export class Source {
  constructor(workspaceId, inMemory, newestSince, eventsSince) {
    this.database = new MongoClient(process.env.BENCH_URI).db('benchmark')
    Object.assign(this, { workspaceId, inMemory, newestSince, eventsSince, known: new Map() })
  }

  async contacts(first) {
    const filter = { workspace_id: this.workspaceId, _id: { $gt: this.newestSince } }
    return this.read('contacts', filter, { projection: CONTACT, sort: { _id: -1 }, limit: first })
  }

  async one(id) {
    return (await this.read('contacts', { workspace_id: this.workspaceId, _id: id }, { projection: CONTACT }))[0]
  }

  async events(ids) {
    const filter = { contact_id: { $in: ids }, workspace_id: this.workspaceId, _id: { $gt: this.eventsSince } }
    const found = new Map(ids.map((id) => [id, []]))
    const options = { projection: EVENT, sort: { _id: -1 }, batchSize: 100000 }
    for (const row of await this.read('events', filter, options)) found.get(row.contact_id).push(row)
    return ids.map((id) => found.get(id))
  }

  async read(collection, filter, options) {
    const key = collection + JSON.stringify(filter)
    if (this.inMemory && this.known.has(key)) return this.known.get(key)
    const rows = await this.database.collection(collection).find(filter, options).toArray()
    this.known.set(key, rows)
    return rows
  }

  context() {
    return { source: this, events: new DataLoader((ids) => this.events(ids)) }
  }
}

// SERVER.js WORKSPACE database|memory NEWEST_SINCE EVENTS_SINCE PORT
export function fromArguments() {
  const [workspaceId, documents, newestSince, eventsSince, port] = process.argv.slice(2)
  return { source: new Source(workspaceId, documents === 'memory', newestSince, eventsSince), port: Number(port) }
}
