// GraphiQL for the gateway that serves this page, with a key in the headers' editor where the page has one.
import "graphiql/style.css";
import "./page.css";
import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createElement } from "react";
import { createRoot } from "react-dom/client";
import { TABS } from "./tabs.js";

const WORKERS = new Set(["graphql", "json"]);
globalThis.MonacoEnvironment = {
  getWorker: (_, label) => new Worker(new URL(`${WORKERS.has(label) ? label : "editor"}.worker.js`, import.meta.url), { type: "module" }),
};

const root = document.getElementById("graphiql");
const url = new URL("graphql", document.baseURI).href;

const page = createElement(GraphiQL, {
  fetcher: createGraphiQLFetcher({ url, subscriptionUrl: url.replace(/^http/, "ws"), enableIncrementalDelivery: false }),
  defaultTabs: TABS,
  defaultHeaders: JSON.stringify({ Authorization: `Bearer ${root.dataset.key}` }, null, 2),
  shouldPersistHeaders: false,
  plugins: [], // without the history, which would keep the key in the browser's storage
});
createRoot(root).render(page);
