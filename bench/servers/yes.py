"""A Klaviyo that takes whatever it is sent: yes.py PORT"""

import sys
from typing import Any

import uvicorn


async def yes(_: Any, receive: Any, send: Any) -> None:
    """Read a request to its end, and take it."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 202, "headers": []})
    await send({"type": "http.response.body"})


if __name__ == "__main__":
    uvicorn.run(yes, port=int(sys.argv[1]), log_level="warning", lifespan="off")
