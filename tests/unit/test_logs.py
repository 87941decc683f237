"""Log lines: no local of any frame, which may hold a key or a person's data, is in a traceback."""

import io
from typing import Any

import pytest
import structlog

from gateway.observability import configure_logs


@pytest.mark.parametrize("json", [True, False])
def test_a_traceback_shows_no_values(json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written, secret = io.StringIO(), "".join(("SEC", "RET"))
    monkeypatch.setattr("sys.stderr", written)
    configure_logs("INFO", json=json)
    try:
        _fail(secret)
    except ValueError:
        structlog.get_logger("test").exception("unexpected error", request_id="r1")
    finally:
        structlog.reset_defaults()
    assert "unexpected error" in written.getvalue()
    assert "ValueError" in written.getvalue()
    assert "SECRET" not in written.getvalue()


def _fail(text: str) -> Any:
    scope = {"authorization": text}
    raise ValueError(len(scope))
