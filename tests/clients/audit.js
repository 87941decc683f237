// Every audit of GraphQL over HTTP against a started gateway: prints one line of JSON per audit.
import { serverAudits } from "graphql-http";

const [url, key] = process.argv.slice(2);
const fetchFn = (input, init = {}) => fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${key}` } });
for (const audit of serverAudits({ url, fetchFn })) {
  const result = await audit.fn();
  const body = result.status === "ok" ? undefined : await result.response.text().catch(() => "");
  console.log(JSON.stringify({ id: audit.id, name: audit.name, status: result.status, reason: result.reason, body }));
}
