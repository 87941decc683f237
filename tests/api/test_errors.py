"""How what goes wrong is told: codes, request ids, masks; and what HTTP says of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.store.embedded import embedded_server

CODES = {
    "UNAUTHENTICATED",
    "FORBIDDEN",
    "BAD_REQUEST",
    "LIMIT_EXCEEDED",
    "RATE_LIMITED",
    "CURSOR_EXPIRED",
    "UNAVAILABLE",
    "INTERNAL",
}
TRACK = "mutation($i: TrackEventInput!) { trackEvent(input: $i) { event { id } userErrors { code path } } }"


def the_error(response: Any) -> dict[str, Any]:
    """The one error of an answer, in the shape that every one has."""
    (error,) = response.json()["errors"]
    assert isinstance(error["message"], str)
    assert error["message"]
    extensions = error["extensions"]
    assert set(extensions) == {"code", "retryable", "requestId"}
    assert extensions["code"] in CODES
    assert extensions["retryable"] is (extensions["code"] in ("UNAVAILABLE", "RATE_LIMITED"))
    assert extensions["requestId"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return dict(error)


def code(response: Any) -> str:
    return str(the_error(response)["extensions"]["code"])


async def written(workspace: Any) -> int:
    database = workspace.gateway.runtime.database
    return sum(
        [
            await database.count(name, {"workspace_id": workspace.id})
            for name in ("events", "contacts", "event_summaries", "event_definitions", "changes")
        ]
    )


# ---- requests that are wrong ------------------------------------------------------------------------------------


async def test_an_error_has_code_retryable_and_the_request_id_of_the_header(workspace: Any) -> None:
    response = await workspace.post("{ contacts(first: 0) { nodes { id } } viewer { id } }")
    error = the_error(response)
    assert error["extensions"]["code"] == "BAD_REQUEST"
    assert error["path"] == ["contacts"]
    assert response.json()["data"]["contacts"] is None
    assert response.json()["data"]["viewer"]["id"]
    assert (await workspace.post("{ viewer { id } }")).headers["x-request-id"] != response.headers["x-request-id"]


@pytest.mark.parametrize(
    "query",
    [
        "{", "", "   ", "}", "query { viewer { id }", "{ nothing }", "{ viewer { nothing } }", "{ viewer }", "{ node { id } }", "{ node(id: 1.5) { id } }", "{ viewer(a: 1) { id } }",
        "query($x: Nothing) { viewer { id } }", "query($x: ID!) { viewer { id } }", "{ ...F }", "fragment F on Viewer { id }", "{ viewer { ...F } } fragment F on Viewer { ...F }",
        "query A { viewer { id } } query B { viewer { id } }", "subscription { x }", "{ viewer { id } } }", '{ node(id: "\\uD800") { id } }', "{ viewer { id @nothing } }", "type A { a: Int }",
        '{ contact(by: {id: "a", email: "b"}) { id } }', "{ contact(by: {}) { id } }", "{ contact(by: {id: null}) { id } }", '{ contact(by: {nothing: "a"}) { id } }', '{ contact(by: "a") { id } }',
        '{ events(filter: {occurredAt: {after: "yesterday"}}) { nodes { id } } }', "{ events(filter: {occurredAt: {after: 5}}) { nodes { id } } }", '{ contacts(first: "1") { nodes { id } } }',
        "{ contacts(first: 2147483648) { nodes { id } } }", "{ contacts(first: " + "1" * 5000 + ") { nodes { id } } }", "{ viewer { id }\0 }", "{ viewer { id } } \ufeff\u0001",
    ],
)  # fmt: skip
async def test_what_graphql_itself_refuses_is_a_bad_request(workspace: Any, query: str) -> None:
    response = await workspace.post(query)
    assert [error["extensions"]["code"] for error in response.json()["errors"]] == ["BAD_REQUEST"] * len(
        response.json()["errors"]
    )
    assert response.json().get("data") is None
    assert response.json()["errors"][0]["extensions"]["requestId"] == response.headers["x-request-id"]


EVENT = {"contact": {"externalId": "u"}, "name": "did"}


@pytest.mark.parametrize(
    "input_",
    [
        None, 5, "x", [], {}, {"name": "did"}, {**EVENT, "name": None}, {**EVENT, "name": 5}, {**EVENT, "nothing": 1}, {**EVENT, "contact": None}, {**EVENT, "contact": {"nothing": 1}}, {**EVENT, "contact": {"externalId": 5}},
        {**EVENT, "occurredAt": "yesterday"}, {**EVENT, "occurredAt": ""}, {**EVENT, "occurredAt": 1700000000}, {**EVENT, "occurredAt": "2026-01-31"}, {**EVENT, "occurredAt": "2026-01-31T09:30:00"},
        {**EVENT, "occurredAt": "2026-02-30T09:30:00Z"}, {**EVENT, "occurredAt": "2026-01-31T25:30:00Z"}, {**EVENT, "occurredAt": "0000-01-01T00:00:00Z"}, {**EVENT, "occurredAt": "0001-01-01T00:00:00+23:59"}, {**EVENT, "occurredAt": {}},
        {**EVENT, "metadata": []}, {**EVENT, "metadata": "x"}, {**EVENT, "metadata": 5}, {**EVENT, "countsAsSeen": "yes"}, {**EVENT, "idempotencyKey": 5},
    ],
)  # fmt: skip
async def test_what_graphql_cannot_coerce_is_a_bad_request_for_all_of_it(workspace: Any, input_: Any) -> None:
    response = await workspace.post(TRACK, {"i": input_})
    assert {error["extensions"]["code"] for error in response.json()["errors"]} == {"BAD_REQUEST"}
    assert response.json().get("data") is None
    assert await written(workspace) == 0


async def test_one_malformed_time_spoils_the_whole_batch(workspace: Any) -> None:
    response = await workspace.post(
        "mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e}) { accepted } }",
        {"e": [EVENT, {**EVENT, "occurredAt": "soon"}]},
    )
    assert code(response) == "BAD_REQUEST"
    assert await written(workspace) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "ADMIN"),
        ("role", "user"),
        ("role", 1),
        ("optedOutSubscriptionTypesCount", 1.5),
        ("optedOutSubscriptionTypesCount", 2**31),
        ("tags", [None]),
        ("hasHardBounced", 1),
        ("customAttributes", []),
    ],
)
async def test_wrong_enums_and_scalars_of_a_contact(workspace: Any, field: str, value: Any) -> None:
    response = await workspace.post(
        "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { created } }",
        {"i": {"externalId": "u", field: value}},
    )
    assert code(response) == "BAD_REQUEST"
    assert await written(workspace) == 0


@pytest.mark.parametrize(
    "text",
    ["9007199254740992", "-9007199254740992", "1.5", '"1"', "1e400", "NaN", "1" * 30, "1" * 5000, "true", "null"],
    ids=lambda text: text[:20],
)
async def test_what_is_no_safe_integer(workspace: Any, text: str) -> None:
    line = {"name": "did", "count": "@count@", "firstAt": "2026-01-01T00:00:00Z", "lastAt": "2026-01-01T00:00:00Z"}
    body = json.dumps(
        {
            "query": 'mutation($s: [EventSummaryInput!]!) { importEventSummaries(input: {contact: {externalId: "u"}, summaries: $s}) { userErrors { code } } }',
            "variables": {"s": [line]},
        }
    )
    assert code(await workspace.post("", raw=body.replace('"@count@"', text).encode())) == "BAD_REQUEST"
    if text not in ("NaN",):
        literal = f'mutation {{ importEventSummaries(input: {{contact: {{externalId: "u"}}, summaries: [{{name: "did", count: {text}, firstAt: "2026-01-01T00:00:00Z", lastAt: "2026-01-01T00:00:00Z"}}]}}) {{ userErrors {{ code }} }} }}'
        assert code(await workspace.post(literal)) == "BAD_REQUEST"
    assert await written(workspace) == 0


@pytest.mark.parametrize(
    "by", [{"id": "a", "email": "b"}, {}, {"id": None}, {"id": "a", "email": None}, {"nothing": "a"}, None, "a"]
)
async def test_exactly_one_key_of_a_contact(workspace: Any, by: Any) -> None:
    assert (
        code(await workspace.post("query($by: ContactKey!) { contact(by: $by) { id } }", {"by": by})) == "BAD_REQUEST"
    )


@pytest.mark.parametrize(
    "query",
    [
        "query($t: String!) { contact(by: {externalId: $t}) { id } }", "query($t: String!) { contact(by: {email: $t}) { id } }", "query($t: String!) { contact(by: {anonymousId: $t}) { id } }",
        "query($t: ID!) { contact(by: {id: $t}) { id } }", "query($t: ID!) { node(id: $t) { id } }", "query($t: ID!) { event(id: $t) { id } }", "query($t: String!) { events(filter: {name: [$t]}) { nodes { id } } }",
        "query($t: ID!) { events(filter: {contactId: $t}) { nodes { id } } }", "query($t: String!) { events(after: $t) { nodes { id } } }",
        'query($t: String!) { contact(by: {externalId: "u"}) { eventSummary(name: $t) { id } } }', 'query($t: String!) { contact(by: {externalId: "u"}) { eventSummaries(names: [$t]) { nodes { id } } } }',
        'query($t: String!) { contact(by: {externalId: "u"}) { events(filter: {name: [$t]}) { nodes { id } } } }', 'query($t: String!) { contact(by: {externalId: "u"}) { events(after: $t) { nodes { id } } } }',
        'query($t: ID!) { contact(by: {externalId: "u"}) { events(filter: {contactId: $t}) { nodes { id } } } }',
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "text",
    ['"\\ud800"', '"a\\u0000b"', '"' + "x" * 5000 + '"', '"evt_\\ud800"', '"$gt"'],
    ids=["half", "nul", "long", "half an id", "operator"],
)
async def test_hostile_texts_in_a_query_find_nothing_or_are_refused(workspace: Any, query: str, text: str) -> None:
    await workspace.track(EVENT)
    body = json.dumps({"query": query, "variables": {"t": "@text@"}}).replace('"@text@"', text)
    response = await workspace.post("", raw=body.encode())
    assert response.status_code == 200
    assert {error["extensions"]["code"] for error in response.json().get("errors", ())} <= {"BAD_REQUEST"}


# ---- HTTP -------------------------------------------------------------------------------------------------------


async def get(workspace: Any, **parameters: str) -> Any:
    return await workspace.gateway.http.get(
        workspace.gateway.url, params=parameters, headers={"authorization": f"Bearer {workspace.key}"}
    )


async def test_a_query_by_get_works(workspace: Any) -> None:
    response = await get(
        workspace,
        query="query($id: ID!) { node(id: $id) { id } viewer { id } }",
        variables=json.dumps({"id": workspace.id}),
    )
    assert response.status_code == 200
    assert response.json() == {
        "data": {"node": {"id": workspace.id}, "viewer": {"id": workspace.key.partition(".")[0]}}
    }
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("operation", [None, "M"])
async def test_a_mutation_by_get_is_refused(workspace: Any, operation: str | None) -> None:
    query = 'mutation M { trackEvent(input: {contact: {externalId: "u"}, name: "did"}) { duplicate } }'
    parameters = {"query": query if operation is None else query + " query Q { viewer { id } }"} | (
        {} if operation is None else {"operationName": operation}
    )
    response = await get(workspace, **parameters)
    assert response.status_code in (400, 405)
    assert await written(workspace) == 0
    assert code(response) == "BAD_REQUEST"


async def test_the_operation_named_is_the_one_that_runs(workspace: Any) -> None:
    body = {"query": "query A { a: viewer { id } } query B { b: viewer { id } }", "operationName": "B"}
    response = await workspace.post("", raw=json.dumps(body).encode())
    assert set(response.json()["data"]) == {"b"}
    response = await workspace.post("", raw=json.dumps({**body, "operationName": "C"}).encode())
    assert code(response) == "BAD_REQUEST"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"nonsense", b"\xff\xfe\xff", b'"text"', b"[]", b"5", b"null", b"{}", b'{"query": 5}', b'{"query": null}', b'{"query": "{ viewer { id } }", "variables": 5}', b'{"query": "{ viewer { id } }", "variables": "x"}',
        b'{"query": "{ viewer { id } }", "variables": []}', b'{"query": "{ viewer { id } }", "operationName": 5}', b'{"query": "{ viewer { id } }', b'[{"query": "{ viewer { id } }"}]', b'{"query": "\\ud800"}', b"[" * 100_000, b'{"query": "{ viewer { id } }", "variables": {"a":' + b"[" * 100_000,
    ],
    ids=lambda raw: repr(raw[:40]),
)  # fmt: skip
async def test_a_body_that_is_no_request_is_a_bad_request(workspace: Any, raw: bytes) -> None:
    response = await workspace.post("", raw=raw)
    assert response.status_code < 500
    assert code(response) == "BAD_REQUEST"


async def test_a_document_that_nests_too_deep_is_over_a_limit(workspace: Any) -> None:
    response = await workspace.post("", raw=b'{"query": "' + b"{ viewer " * 20_000 + b'"}')
    assert response.status_code == 413
    assert code(response) == "LIMIT_EXCEEDED"


async def test_other_content_types_and_methods_are_refused(workspace: Any) -> None:
    headers = {"authorization": f"Bearer {workspace.key}"}
    http, url = workspace.gateway.http, workspace.gateway.url
    for type_ in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        response = await http.post(
            url, content=b'{"query": "{ viewer { id } }"}', headers={**headers, "content-type": type_}
        )
        assert 400 <= response.status_code < 500, type_
        assert code(response) == "BAD_REQUEST"
    for method in ("PUT", "DELETE", "PATCH"):
        response = await http.request(
            method,
            url,
            content=b'{"query": "{ viewer { id } }"}',
            headers={**headers, "content-type": "application/json"},
        )
        assert response.status_code == 405


async def test_a_body_larger_than_allowed_is_refused_unread(open_gateway: Any) -> None:
    async with open_gateway(max_body_bytes=2000) as gateway:
        workspace = await gateway.workspace()
        body = json.dumps({"query": TRACK, "variables": {"i": {**EVENT, "metadata": {"a": "@"}}}})
        fits = body.replace("@", "x" * (2000 - len(body) + 1))
        assert len(fits) == 2000
        assert "errors" not in (await workspace.post("", raw=fits.encode())).json()
        response = await workspace.post("", raw=(fits + " ").encode())
        assert response.status_code == 413
        assert code(response) == "LIMIT_EXCEEDED"
        assert response.json().get("data") is None


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic dXNlcjpwYXNz", "Bearer nonsense", "nonsense", "Bearer key_", "bearer x y"]
)
async def test_a_header_that_is_worth_nothing_is_401(workspace: Any, header: str) -> None:
    response = await workspace.gateway.http.post(
        workspace.gateway.url, json={"query": "{ viewer { id } }"}, headers={"authorization": header}
    )
    assert response.status_code == 401
    assert code(response) == "UNAUTHENTICATED"


async def test_a_header_of_strange_bytes_is_401(workspace: Any) -> None:
    for value in (b"Bearer \xff\xfe", b"Bearer key_" + b"\xe9" * 26 + b".x", b"\xff"):
        response = await workspace.gateway.http.post(
            workspace.gateway.url, json={"query": "{ viewer { id } }"}, headers=[(b"authorization", value)]
        )
        assert response.status_code == 401
        assert code(response) == "UNAUTHENTICATED"


async def test_health_and_readiness(gateway: Any) -> None:
    base = gateway.url.removesuffix("/graphql")
    for path in ("/healthz", "/readyz"):
        response = await gateway.http.get(base + path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


# ---- what nobody foresaw ----------------------------------------------------------------------------------------


async def corrupted(workspace: Any, change: dict[str, Any]) -> str:
    """The id of an event whose document somebody broke."""
    (result,) = (await workspace.track(EVENT))["results"]
    await workspace.gateway.runtime.database.update("events", {"_id": result["eventId"]}, change)
    return str(result["eventId"])


@pytest.mark.parametrize(
    "change",
    [
        {"$unset": {"occurred_at": ""}},
        {"$set": {"occurred_at": "top secret"}},
        {"$set": {"name": {"top": "secret"}}},
        {"$set": {"metadata": [{"key": "secret"}]}},
        {"$set": {"metadata": "secret"}},
        {"$set": {"metadata": [{"type": "NumberMetadata", "key": "k", "number": "secret", "exact": "1"}]}},
    ],
    ids=["nothing", "text for a time", "object for a text", "untyped", "text for a list", "text for a number"],
)
async def test_the_unexpected_is_masked_with_the_request_id_and_logged_once(
    workspace: Any, change: dict[str, Any]
) -> None:
    event_id = await corrupted(workspace, change)
    with structlog.testing.capture_logs() as logs:
        response = await workspace.post(
            "query($id: ID!) { event(id: $id) { name occurredAt metadata { key ... on NumberMetadata { number } } } viewer { id } }",
            {"id": event_id},
        )
    error = the_error(response)
    assert response.status_code == 200
    assert error["extensions"]["code"] == "INTERNAL"
    assert "secret" not in response.text
    assert error["extensions"]["requestId"] in error["message"]
    assert response.json()["data"]["event"] is None
    assert response.json()["data"]["viewer"]["id"]
    (line,) = [line for line in logs if line["log_level"] in ("error", "critical")]
    assert line["request_id"] == error["extensions"]["requestId"]
    assert line["path"][0] == "event"


async def test_the_callers_mistakes_are_worth_no_line(workspace: Any) -> None:
    with structlog.testing.capture_logs() as logs:
        await workspace.post("{ nothing }")
        await workspace.post("{ contacts(first: 0) { nodes { id } } }")
        await workspace.post("{ viewer { id } }", key="")
        await workspace.post(TRACK, {"i": {**EVENT, "name": ""}})
    assert {(line["event"], line["log_level"]) for line in logs} == {("operation", "info")}


async def test_a_database_that_is_gone_is_unavailable_and_worth_another_try(open_gateway: Any, tmp_path: Path) -> None:
    async with embedded_server(tmp_path, "secantusd-py") as uri:
        stack = open_gateway(uri=uri, mongo_timeout_seconds=0.5)
        gateway = await stack.__aenter__()
        workspace = await gateway.workspace()
        await workspace.track(EVENT)
    try:
        for query, variables in (
            ("{ events { nodes { id } } }", None),
            ("{ events { nodes { id } } }", None),
            (TRACK, {"i": EVENT}),
        ):
            if query == TRACK:
                continue  # tries for fifteen seconds: too long for a test
            response = await workspace.post(query, variables)
            error = the_error(response)
            assert error["extensions"]["code"] == "UNAVAILABLE"
            assert error["extensions"]["retryable"] is True
        response = await workspace.post("{ viewer { id } }", key="key_" + "0" * 26 + ".x")
        assert response.status_code == 503
        assert code(response) == "UNAVAILABLE"
        assert (await gateway.http.get(gateway.url.removesuffix("/graphql") + "/readyz")).status_code == 503
    finally:
        await stack.__aexit__(None, None, None)
