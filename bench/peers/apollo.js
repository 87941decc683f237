// Apollo Server, standalone.
import { ApolloServer } from '@apollo/server'
import { startStandaloneServer } from '@apollo/server/standalone'
import { fromArguments, resolvers, typeDefs } from './schema.js'

const { source, port } = fromArguments()
const server = new ApolloServer({ typeDefs, resolvers, introspection: false })
await startStandaloneServer(server, { listen: { port, host: '127.0.0.1' }, context: async () => source.context() })
