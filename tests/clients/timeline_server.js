// Somebody's web server: serves the page with the timeline, and its person's tokens. Prints its address.
import { createServer } from "node:http";
import { build } from "esbuild";
import { contactToken } from "./token.js";

const built = await build({ entryPoints: ["timeline_page.jsx"], bundle: true, write: false, jsx: "automatic", define: { "process.env.NODE_ENV": '"development"' } });
const PAGE = '<!doctype html><link rel="icon" href="data:,"><div id="root"></div><script src="/page.js"></script>';
const answers = {
  "/": async () => ["text/html", PAGE],
  "/page.js": async () => ["text/javascript", built.outputFiles[0].text],
  "/token": async () => ["text/plain", (await contactToken("ada")).token],
};
const server = createServer(async (request, response) => {
  try {
    const [type, body] = await answers[new URL(request.url, "http://page").pathname]();
    response.writeHead(200, { "content-type": type, "cache-control": "no-store" }).end(body);
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
});
server.listen(Number(process.argv[2]), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
