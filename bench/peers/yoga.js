// GraphQL Yoga on Node's own HTTP server.
import { createServer } from 'node:http'
import { createSchema, createYoga } from 'graphql-yoga'
import { fromArguments, resolvers, typeDefs } from './schema.js'

const { source, port } = fromArguments()
const yoga = createYoga({
  schema: createSchema({ typeDefs, resolvers }),
  context: () => source.context(),
  graphiql: false,
  logging: false,
})
createServer(yoga).listen(port, '127.0.0.1')
