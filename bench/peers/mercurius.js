// Fastify with Mercurius and its JIT.
import Fastify from 'fastify'
import mercurius from 'mercurius'
import { fromArguments, resolvers, typeDefs } from './schema.js'

const { source, port } = fromArguments()
const app = Fastify()
app.register(mercurius, { schema: typeDefs, resolvers, jit: 1, context: () => source.context() })
await app.listen({ port, host: '127.0.0.1' })
