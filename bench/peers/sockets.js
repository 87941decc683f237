// Subscriptions by graphql-ws on ws: everybody listens to the same events; a POST makes one.
import { setMaxListeners } from 'node:events'
import { createServer } from 'node:http'
import { useServer } from 'graphql-ws/use/ws'
import { createPubSub, createSchema } from 'graphql-yoga'
import { WebSocketServer } from 'ws'

const port = Number(process.argv.at(-1))
const eventTarget = new EventTarget()
setMaxListeners(0, eventTarget)
const pubSub = createPubSub({ eventTarget })
const schema = createSchema({
  typeDefs: `
    scalar DateTime
    enum EventChange { TRACKED CHECKPOINT }
    input EventStreamFilter { name: [String!] }
    type Contact { id: ID! displayName: String! }
    type Event { id: ID! name: String! occurredAt: DateTime! contact: Contact }
    type EventNotification { cursor: String! kind: EventChange! event: Event }
    type Query { nothing: String }
    type Subscription { eventTracked(filter: EventStreamFilter): EventNotification! }
  `,
  resolvers: {
    Subscription: {
      eventTracked: {
        subscribe: (_, { filter }) => {
          const events = pubSub.subscribe('tracked')
          return (async function* () {
            for await (const sent of events) if (!filter?.name || filter.name.includes(sent.event.name)) yield sent
          })()
        },
        resolve: (sent) => sent,
      },
    },
    Event: { occurredAt: (row) => row.occurred_at.toISOString() },
  },
})

let number = 0
const server = createServer((_, response) => {
  number += 1
  pubSub.publish('tracked', {
    cursor: 'x'.repeat(75),
    kind: 'TRACKED',
    event: {
      id: `evt_${String(number).padStart(26, '0')}`,
      name: 'fanned out',
      occurred_at: new Date(),
      contact: { id: 'con_00000000000000000000000000', displayName: 'Person 1' },
    },
  })
  response.end('{}')
})
useServer({ schema }, new WebSocketServer({ server, path: '/graphql' }))
server.listen({ port, host: '127.0.0.1', backlog: 4096 })
