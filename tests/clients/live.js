// Each client asks, tracks, subscribes, loses its socket and subscribes again from its cursor: prints one line of JSON per client.
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client/core/index.js";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions/index.js";
import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [url, key] = process.argv.slice(2);
const headers = { authorization: `Bearer ${key}` };
const ASK = "{ viewer { workspace { name } } }";
const TRACK = "mutation ($name: String!) { trackEvent(input: { contact: { externalId: \"u\" }, name: $name }) { event { id } } }";
const WATCH = "subscription ($name: String!, $after: String) { eventTracked(filter: { name: [$name] }, after: $after) { cursor kind event { id } } }";
const CURSOR = "{ streamCursor }";

const sockets = () => createClient({ url: url.replace("http", "ws"), webSocketImpl: WebSocket, connectionParams: headers, retryAttempts: 5 });

const graphqlWs = () => {
  const client = sockets();
  // Done once it is complete: an operation that is still open when the socket is cut would be sent again.
  const once = (query, variables) =>
    new Promise((resolve, reject) => {
      let data;
      client.subscribe({ query, variables }, { next: (found) => (data = found.data), error: reject, complete: () => resolve(data) });
    });
  const watch = (variables, seen) => client.subscribe({ query: WATCH, variables }, { next: (found) => seen(found.data.eventTracked), error: console.error, complete: () => {} });
  return { once, watch, end: () => client.dispose(), cut: () => client.terminate() };
};

const apollo = () => {
  const socket = sockets();
  const link = ApolloLink.split((operation) => operation.query.definitions[0].operation === "subscription", new GraphQLWsLink(socket), new HttpLink({ uri: url, headers }));
  const client = new ApolloClient({ link, cache: new InMemoryCache(), defaultOptions: { query: { fetchPolicy: "no-cache" } } });
  const once = async (query, variables) => {
    const document = gql(query);
    const found = document.definitions[0].operation === "mutation" ? await client.mutate({ mutation: document, variables }) : await client.query({ query: document, variables });
    return found.data;
  };
  const watch = (variables, seen) => {
    const watching = client.subscribe({ query: gql(WATCH), variables }).subscribe({ next: (found) => seen(found.data.eventTracked), error: console.error });
    return () => watching.unsubscribe();
  };
  return { once, watch, end: () => socket.dispose(), cut: () => socket.terminate() };
};

const urql = () => {
  const socket = sockets();
  const exchange = subscriptionExchange({
    forwardSubscription: (request) => ({ subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query: request.query ?? "", variables: request.variables }, sink) }) }),
  });
  const client = new Client({ url, exchanges: [fetchExchange, exchange], fetchOptions: { headers }, preferGetMethod: false });
  const once = async (query, variables = {}) => {
    const found = await (query.startsWith("mutation") ? client.mutation(query, variables) : client.query(query, variables)).toPromise();
    if (found.error) throw found.error;
    return found.data;
  };
  const watch = (variables, seen) => {
    const watching = client.subscription(WATCH, variables).subscribe((found) => found.data && seen(found.data.eventTracked));
    return () => watching.unsubscribe();
  };
  return { once, watch, end: () => socket.dispose(), cut: () => socket.terminate() };
};

const until = async (holds) => {
  for (let tries = 0; tries < 400; tries += 1) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`waited in vain for ${holds}`);
};

for (const [client, make] of Object.entries({ "graphql-ws": graphqlWs, apollo, urql })) {
  const { once, watch, end, cut } = make();
  const { viewer } = await once(ASK);
  const { streamCursor } = await once(CURSOR);
  const sent = [];
  const seen = [];
  const track = async () => sent.push((await once(TRACK, { name: client })).trackEvent.event.id);
  let last = streamCursor;
  const stop = watch({ name: client, after: streamCursor }, (found) => {
    last = found.cursor;
    seen.push(found.event.id);
  });
  await track();
  await track();
  await until(() => seen.length === 2);
  stop();
  cut();
  await track();
  await until(() => true);
  const stopAgain = watch({ name: client, after: last }, (found) => seen.push(found.event.id));
  await track();
  await until(() => seen.length === 4).catch((error) => { throw new Error(`${client}: ${sent} but ${seen}`, { cause: error }); });
  stopAgain();
  await end();
  console.log(JSON.stringify({ client, workspace: viewer.workspace.name, same: JSON.stringify(sent) === JSON.stringify(seen) }));
}
process.exit(0);
