"""Checks a Klaviyo key with one call that writes nothing."""

from gateway.destinations.klaviyo.client import CREATE_EVENT, REVISION, KlaviyoClient
from gateway.destinations.klaviyo.responses import Outcome, Response

_NOTHING = {"data": {"type": "event", "attributes": {}}}
_WRONG = {
    401: "Klaviyo does not know this API key: copy a private key (pk_...) from Settings, API keys.",
    403: "The API key does not have the scope events:write: create one with events:write, profiles:write and data-privacy:write.",
    410: f"Klaviyo has retired the revision {REVISION} of its API: update the gateway.",
}


async def ask(client: KlaviyoClient) -> Response:
    """Klaviyo's response to an empty event: refused as invalid if key, scope and revision are right."""
    return await client.send(CREATE_EVENT, _NOTHING)


def problem_of(response: Response) -> str | None:
    """What the response says is wrong, and how to fix it; None if key, scope and revision are right."""
    if response.outcome is Outcome.BAD and response.status != 404:
        return None
    if response.outcome is Outcome.PAUSE and response.status in _WRONG:
        return f"{_WRONG[response.status]} ({response.error})"
    if response.status == 429:
        return None  # the key is valid: its calls are counted
    return f"The API key could not be checked: {response.error or f'Klaviyo responded {response.status}.'} Try again."
