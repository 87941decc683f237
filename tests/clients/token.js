const CREATE = "mutation ($input: CreateContactTokenInput!) { createContactToken(input: $input) { token expiresAt userErrors { message } } }";

/** A token of the person with that id of yours: give it to nobody but whom your session says that this is. */
export async function contactToken(externalId) {
  const answer = await fetch(process.env.EVENTS_URL, {
    method: "POST",
    headers: { authorization: `Bearer ${process.env.EVENTS_KEY}`, "content-type": "application/json" },
    body: JSON.stringify({ query: CREATE, variables: { input: { contact: { externalId }, expiresInSeconds: 900 } } }),
  });
  const { data, errors } = await answer.json();
  const [problem] = errors ?? data.createContactToken.userErrors;
  if (problem) throw new Error(problem.message);
  return data.createContactToken;
}
