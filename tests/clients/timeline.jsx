import { createClient } from "graphql-ws";
import { useEffect, useState } from "react";
import { Client, fetchExchange, subscriptionExchange } from "urql";

const NOW = "{ streamCursor }";
const LIVE = "subscription Live($after: String) { eventTracked(after: $after) { cursor event { id name occurredAt } } }";
const PAGE = `query Page($after: String) {
  viewer { contact { events(first: 20, after: $after) { nodes { id name occurredAt } pageInfo { hasNextPage endCursor } } } }
}`;

/** A client of the gateway at `url`, made once for a page; `newToken` asks your server for a token. */
export function createGateway(url, newToken, patience = 90_000) {
  let bearer, silence;
  const renewed = async () => (bearer = { authorization: `Bearer ${await newToken()}` });
  const authorized = async (input, init) => {
    const send = (credential) => fetch(input, { ...init, headers: { ...init.headers, ...credential } });
    const answer = await send(bearer ?? (await renewed()));
    return answer.status === 401 ? send(await renewed()) : answer;
  };
  const heard = () => { // CHECKPOINTs come every 30 seconds: where nothing does the connection is dead, and nobody said so
    clearTimeout(silence);
    silence = setTimeout(() => sockets.terminate(), patience);
  };
  const sockets = createClient({
    url: url.replace(/^http/, "ws"),
    connectionParams: renewed,
    on: { message: heard },
    retryAttempts: Infinity,
    shouldRetry: () => true, // a browser tells of a refused connection by an event that is not retried by default
    retryWait: (retries) => new Promise((wake) => setTimeout(wake, Math.min(30_000, 500 * 2 ** retries) * (0.5 + Math.random() / 2))),
  });
  const forwardSubscription = (request) => ({
    subscribe: (sink) => {
      const payload = { ...request, variables: { ...request.variables } }; // sent again whenever graphql-ws connects again
      const next = (result) => {
        payload.variables.after = result.data?.eventTracked.cursor ?? payload.variables.after; // from then on: after this one
        sink.next(result);
      };
      const error = (reason) => (reason.code === 4401 ? (stop = begin()) : sink.error(reason)); // the token expired
      const begin = () => sockets.subscribe(payload, { next, error, complete: () => sink.complete() });
      let stop = begin();
      return { unsubscribe: () => stop() };
    },
  });
  const exchanges = [fetchExchange, subscriptionExchange({ forwardSubscription })];
  return new Client({ url, exchanges, fetch: authorized, preferGetMethod: false });
}

async function asked(gateway, query, variables = {}) {
  const { data, error } = await gateway.query(query, variables).toPromise();
  if (error) throw error;
  return data;
}

async function loaded(gateway, after) {
  const { nodes, pageInfo } = (await asked(gateway, PAGE, { after })).viewer.contact.events;
  return { events: nodes, older: pageInfo.hasNextPage && pageInfo.endCursor };
}

/** Each event once, the newest first: ids have the order of occurredAt. */
const merged = (some, others) =>
  [...new Map([...some, ...others].map((event) => [event.id, event])).values()].sort((a, b) => (a.id < b.id ? 1 : -1));

/** What the token's contact did, and does. */
export function Timeline({ gateway }) {
  const [{ events, older, problem }, show] = useState({ events: [] });
  const fail = ({ message }) => show((now) => ({ ...now, problem: message }));
  useEffect(() => {
    let live, timer, gone = false;
    const begin = async () => {
      live?.unsubscribe();
      try {
        const { streamCursor } = await asked(gateway, NOW); // before the page: nothing falls in between
        const page = await loaded(gateway);
        if (gone) return;
        show(page);
        live = gateway.subscription(LIVE, { after: streamCursor }).subscribe(({ data, error }) => {
          if (error) recover(error);
          else if (data.eventTracked.event) show((now) => ({ ...now, events: merged(now.events, [data.eventTracked.event]) }));
        });
      } catch (error) {
        recover(error);
      }
    };
    const recover = (error) => {
      const { code, retryable } = error.graphQLErrors?.[0]?.extensions ?? {};
      if (gone) return;
      if (code === "CURSOR_EXPIRED") begin(); // away for too long: load anew
      else if (retryable || error.networkError) timer = setTimeout(begin, 1000 * (error.response?.headers.get("retry-after") ?? 2));
      else fail(error);
    };
    begin();
    return () => { gone = true; clearTimeout(timer); live?.unsubscribe(); };
  }, [gateway]);

  const more = (page) => show((now) => (now.older === older ? { ...page, events: merged(now.events, page.events) } : now));
  return (
    <>
      {problem && <p role="alert">{problem}</p>}
      <ol>{events.map(({ id, name, occurredAt }) => <li key={id}>{name} <time>{occurredAt}</time></li>)}</ol>
      {older && <button onClick={() => loaded(gateway, older).then(more, fail)}>Older</button>}
    </>
  );
}
