"""Who a request comes from, counted against its rate limits, and what its answer says of them."""

from datetime import datetime

from starlette.requests import Request

from gateway.auth import Authenticator
from gateway.domain.access import Principal
from gateway.errors import UnauthenticatedError
from gateway.services.rate_limits import Allowance, RateLimits, seconds_until


async def admitted(request: Request, authenticator: Authenticator, limits: RateLimits) -> Principal | None:
    """Who asks, once the request is counted: for the bearer, or for the address where there is no valid credential.

    RateLimitedError where that one has none left; `request.state.allowance` is what counts for this request."""
    request.state.allowance = limits.of_address(request.client.host if request.client else "")
    try:
        bearer = await authenticator.principal(request.headers.get("authorization"))
    except UnauthenticatedError:
        await request.state.allowance.take_request()
        raise
    if bearer is not None:
        request.state.allowance = limits.of(bearer.id)
    await request.state.allowance.take_request()
    return bearer


async def limit_headers(request: Request, now: datetime) -> dict[str, str]:
    """Headers that tell of the limit that is nearest to its end; none where the request was not counted."""
    allowance: Allowance | None = getattr(request.state, "allowance", None)
    states = await allowance.states() if allowance else []
    if not states:
        return {}
    state = min(states, key=lambda each: each.remaining / each.limit)
    return {
        "ratelimit-limit": str(state.limit),
        "ratelimit-remaining": str(state.remaining),
        "ratelimit-reset": str(seconds_until(state.resets_at, now)),
    }
