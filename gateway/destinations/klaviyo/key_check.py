"""Whether a key of Klaviyo does what the gateway needs, found out by one call that writes nothing."""

from gateway.destinations.klaviyo.client import CREATE_EVENT, REVISION, KlaviyoClient
from gateway.destinations.klaviyo.responses import Outcome, Response

_NOTHING = {"data": {"type": "event", "attributes": {}}}
_WRONG = {
    401: "Klaviyo does not know this key: copy a private key (pk_...) from Settings, API keys.",
    403: "The key lacks the scope events:write: make one with events:write, profiles:write and data-privacy:write.",
    410: f"Klaviyo has retired the revision {REVISION} of its API: update the gateway.",
}


async def ask(client: KlaviyoClient) -> Response:
    """Klaviyo's answer to an event without anything in it: refused as such where key, scope and revision are right."""
    return await client.send(CREATE_EVENT, _NOTHING)


def problem_of(answer: Response) -> str | None:
    """What the answer says is wrong, and what to do; None where Klaviyo understood who asks for what."""
    if answer.outcome is Outcome.BAD and answer.status != 404:
        return None
    if answer.outcome is Outcome.PAUSE and answer.status in _WRONG:
        return f"{_WRONG[answer.status]} ({answer.error})"
    if answer.status == 429:
        return None  # it knows the key, and counts its calls
    return f"Klaviyo could not be asked: {answer.error or f'it answered {answer.status}.'} Try again."
