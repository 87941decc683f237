// Apollo Client sends hashes and registers what the gateway does not know, by GET and by POST; graphql-ws names a document on its socket.
// Prints one line of JSON per request: how it was sent, and what came.
import { createHash } from "node:crypto";
import { ApolloClient, HttpLink, InMemoryCache, gql } from "@apollo/client/core/index.js";
import { createPersistedQueryLink } from "@apollo/client/link/persisted-queries/index.js";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [url, key] = process.argv.slice(2);
const headers = { authorization: `Bearer ${key}` };
const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const document = gql("query Persisted { viewer { workspace { name } } }");

const watched = async (input, init) => {
  const sent = init.method === "GET" ? Object.fromEntries(new URL(input).searchParams) : JSON.parse(init.body);
  const answer = await fetch(input, init);
  const { errors, data } = await answer.clone().json();
  console.log(JSON.stringify({ method: init.method, query: "query" in sent, status: answer.status, error: errors?.[0].message ?? null, name: data?.viewer.workspace.name ?? null }));
  return answer;
};

for (const useGETForHashedQueries of [true, true, false]) {
  const link = createPersistedQueryLink({ sha256, useGETForHashedQueries }).concat(new HttpLink({ uri: url, headers, fetch: watched }));
  const client = new ApolloClient({ link, cache: new InMemoryCache() });
  await client.query({ query: document });
}

const socket = createClient({ url: url.replace("http", "ws"), webSocketImpl: WebSocket, connectionParams: headers });
const text = document.loc.source.body;
for (const payload of [{ query: text, extensions: { persistedQuery: { version: 1, sha256Hash: sha256(text) } } }, { query: "", documentId: `sha256:${sha256(text)}` }]) {
  for await (const { data } of socket.iterate(payload)) console.log(JSON.stringify({ method: "socket", query: payload.query !== "", name: data.viewer.workspace.name }));
}
await socket.dispose();
process.exit(0);
