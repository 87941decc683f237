"""Who a request comes from, counted against its rate limits, and what its answer says of them."""

from datetime import datetime

from gateway.auth import Authenticator
from gateway.core.principals import Principal
from gateway.errors import RateLimitedError, UnauthenticatedError
from gateway.server.exchange import Exchange
from gateway.services.rate_limits import Allowance, RateLimits, seconds_until


async def authenticate(
    exchange: Exchange, authenticator: Authenticator, limits: RateLimits
) -> tuple[Principal | None, Allowance]:
    """Who asks, once the request is counted: for the bearer, or for the address where there is no valid credential.

    RateLimitedError where that one has none left; the allowance is what counts for this exchange."""
    authorization = exchange.headers.get("authorization")
    bearer = authenticator.remembered(authorization)
    if bearer is None:
        address = limits.of_address(exchange.address)
        if authorization is None:
            exchange.allowance = address
            await address.take_request()
            return None, address
        try:
            bearer = await authenticator.admit(authorization, address)
        except (UnauthenticatedError, RateLimitedError):
            exchange.allowance = address
            raise
    allowance = exchange.allowance = limits.of(bearer.id)
    await allowance.take_request()
    return bearer, allowance


async def limit_headers(allowance: Allowance, now: datetime) -> dict[str, str]:
    """Headers that tell of the limit that is nearest to its end; none where there is none."""
    states = await allowance.states()
    if not states:
        return {}
    state = min(states, key=lambda each: each.remaining / each.limit)
    return {
        "ratelimit-limit": str(state.limit),
        "ratelimit-remaining": str(state.remaining),
        "ratelimit-reset": str(seconds_until(state.resets_at, now)),
    }
