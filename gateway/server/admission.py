"""Identifies the caller of a request and applies its rate limits."""

from datetime import datetime

from gateway.auth import Authenticator
from gateway.core.principals import Principal
from gateway.errors import RateLimitedError, UnauthenticatedError
from gateway.server.exchange import Exchange
from gateway.services.rate_limits import Allowance, RateLimits, seconds_until
from gateway.store.deadlines import answered_by, moment_in


async def authenticate(
    exchange: Exchange, authenticator: Authenticator, limits: RateLimits, seconds: float
) -> tuple[Principal | None, Allowance]:
    """Return the principal (None without a credential) and its allowance, after counting the request.

    The principal is charged, or the address if there is no valid credential. A look-up may take so many seconds. Raises
    RateLimitedError, UnauthenticatedError, UnavailableError."""
    authorization = exchange.headers.get("authorization")
    bearer = authenticator.remembered(authorization)
    if bearer is None:
        address = limits.of_address(exchange.address)
        if authorization is None:
            exchange.allowance = address
            await address.take_request()
            return None, address
        try:
            with answered_by(moment_in(seconds)):
                bearer = await authenticator.admit(authorization, address)
        except (UnauthenticatedError, RateLimitedError):
            exchange.allowance = address
            raise
    allowance = exchange.allowance = limits.of(bearer.id)
    await allowance.take_request()
    return bearer, allowance


def limit_headers(allowance: Allowance, now: datetime) -> dict[str, str]:
    """Return headers for the limit that is closest to exhaustion; empty without limits."""
    states = allowance.states()
    if not states:
        return {}
    state = min(states, key=lambda state: state.remaining / state.limit)
    return {
        "ratelimit-limit": str(state.limit),
        "ratelimit-remaining": str(state.remaining),
        "ratelimit-reset": str(seconds_until(state.resets_at, now)),
    }
