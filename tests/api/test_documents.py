"""Documents that a request names instead of sending them: trusted ones of a manifest, and those that clients registered."""

import hashlib
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
import websockets

from gateway.errors import PersistedQueryNotFoundError, StartupError
from gateway.server.persisted_documents import PersistedDocuments
from gateway.settings import Settings
from schema.limits import OperationLimits
from schema.root import build_schema

ASK = "{ viewer { workspace { id } } }"
NAMED = 'query Named($n: Int) { contacts(first: $n) { nodes { id } } } mutation Track { trackEvent(input: {contact: {externalId: "u"}, name: "did"}) { event { name } } }'
OTHER = "{ viewer { scopes } }"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def apollo(*operations: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {"format": "apollo-persisted-query-manifest", "version": 1, "operations": list(operations), **changed}


def persisted(hash_: Any, version: Any = 1) -> dict[str, Any]:
    return {"persistedQuery": {"version": version, "sha256Hash": hash_}}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """One document under its hash, as Relay and GraphQL Code Generator write them, and one under a name."""
    path = tmp_path / "persisted-documents.json"
    path.write_bytes(orjson.dumps({sha(ASK): ASK, "2f9c-named": NAMED}))
    return path


async def post(workspace: Any, **sent: Any) -> Any:
    return await workspace.post("", raw=orjson.dumps(sent))


async def get(workspace: Any, **sent: Any) -> Any:
    parameters = {
        name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in sent.items()
    }
    headers = {"authorization": f"Bearer {workspace.key}"}
    return await workspace.gateway.http.get(workspace.gateway.url, params=parameters, headers=headers)


def outcome(response: Any) -> tuple[int, str]:
    (error,) = response.json()["errors"]
    assert "data" not in response.json()
    return response.status_code, error["extensions"]["code"]


async def test_documents_of_the_manifest_are_named_in_each_way(open_gateway: Any, manifest: Path) -> None:
    async with open_gateway(trusted_documents=manifest) as gateway:
        workspace = await gateway.workspace()
        expected = {"data": {"viewer": {"workspace": {"id": workspace.id}}}}
        for sent in (
            {"documentId": f"sha256:{sha(ASK)}"},
            {"documentId": sha(ASK)},
            {"documentId": sha(ASK), "query": ""},
            {"documentId": sha(ASK), "query": ASK},
            {"extensions": persisted(sha(ASK))},
            {"documentId": sha(ASK), "extensions": persisted(sha(OTHER))},
            {"query": ASK},
        ):
            for send in (post, get):
                answer = await send(workspace, **sent)
                assert (answer.status_code, answer.json()) == (200, expected), sent
        named = {"documentId": "2f9c-named", "operationName": "Named", "variables": {"n": 2}}
        for send in (post, get):
            assert (await send(workspace, **named)).json() == {"data": {"contacts": {"nodes": []}}}
        track = {"documentId": "2f9c-named", "operationName": "Track"}
        assert outcome(await get(workspace, **track)) == (405, "BAD_REQUEST")
        assert (await post(workspace, **track)).json() == {"data": {"trackEvent": {"event": {"name": "did"}}}}
        assert (await post(workspace, query=OTHER)).status_code == 200
        for wrong in (
            {"documentId": sha(OTHER)},
            {"documentId": "x-mine:1"},
            {"documentId": ""},
            {"documentId": 7, "query": ASK},
            {"documentId": sha(ASK), "query": OTHER},
            {"documentId": "2f9c-named", "query": OTHER},
            {"extensions": {"persistedQuery": sha(ASK)}},
            {"extensions": persisted(sha(ASK), version=2)},
            {"extensions": persisted(None)},
            {"extensions": persisted(sha(ASK)), "query": OTHER},
        ):
            assert outcome(await post(workspace, **wrong)) == (400, "BAD_REQUEST"), wrong


async def test_nothing_but_the_manifest_is_executed_where_it_is_asked_so(open_gateway: Any, manifest: Path) -> None:
    async with open_gateway(trusted_documents=manifest, only_trusted_documents=True) as gateway:
        workspace = await gateway.workspace()
        introspection = "{ __schema { queryType { name } } }"
        for wrong in (
            {"query": OTHER},
            {"query": ASK + " "},
            {"query": introspection},
            {"query": OTHER, "extensions": persisted(sha(OTHER))},
            {"extensions": persisted(sha(OTHER))},
            {"documentId": sha(OTHER)},
        ):
            for send in (post, get):
                assert outcome(await send(workspace, **wrong)) == (403, "FORBIDDEN"), wrong
        for right in ({"query": ASK}, {"documentId": sha(ASK)}, {"extensions": persisted(sha(ASK))}):
            for send in (post, get):
                assert (await send(workspace, **right)).status_code == 200
        async with websockets.connect(
            gateway.url.replace("http:", "ws:"), subprotocols=["graphql-transport-ws"]
        ) as socket:  # type: ignore[list-item]

            async def asked(**payload: Any) -> Any:
                await socket.send(orjson.dumps({"type": "subscribe", "id": "1", "payload": payload}).decode())
                return orjson.loads(await socket.recv())

            init = {"type": "connection_init", "payload": {"authorization": f"Bearer {workspace.key}"}}
            await socket.send(orjson.dumps(init).decode())
            assert orjson.loads(await socket.recv())["type"] == "connection_ack"
            for wrong in ({"query": OTHER}, {"documentId": "1"}, {"query": "", "extensions": persisted(sha(OTHER))}):
                refused = await asked(**wrong)
                assert (refused["type"], refused["payload"][0]["extensions"]["code"]) == ("error", "FORBIDDEN")
            for right in (
                {"query": ASK},
                {"query": None, "documentId": f"sha256:{sha(ASK)}"},
                {"extensions": persisted(sha(ASK))},
            ):
                assert (await asked(**right))["payload"]["data"]["viewer"]["workspace"]["id"] == workspace.id
                assert orjson.loads(await socket.recv()) == {"type": "complete", "id": "1"}


NOT_FOUND = (200, "PERSISTED_QUERY_NOT_FOUND")


async def test_clients_register_documents_by_their_hash_and_send_the_hash_from_then_on(workspace: Any) -> None:
    text = ASK + " # registered"
    by_hash = {"extensions": persisted(sha(text))}
    expected = {"data": {"viewer": {"workspace": {"id": workspace.id}}}}
    for send in (post, get):
        unknown = await send(workspace, **by_hash)
        assert outcome(unknown) == NOT_FOUND
        assert unknown.json()["errors"][0]["message"] == "PersistedQueryNotFound"
        assert unknown.headers["cache-control"] == "no-store"
    assert outcome(await post(workspace, query=OTHER, **by_hash)) == (400, "BAD_REQUEST")
    stranger = await workspace.post("", raw=orjson.dumps({"query": text, **by_hash}), key="")
    assert stranger.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert outcome(await post(workspace, **by_hash)) == NOT_FOUND
    assert (await post(workspace, query=text, **by_hash)).json() == expected
    for send in (post, get):
        for sent in (by_hash, {"documentId": f"sha256:{sha(text)}"}):
            answer = await send(workspace, **sent)
            assert (answer.status_code, answer.json()) == (200, expected)
            assert "cache-control" not in answer.headers
    neighbour = await workspace.gateway.workspace()
    assert (await get(neighbour, **by_hash)).json()["data"]["viewer"]["workspace"]["id"] == neighbour.id
    mutation = "mutation { " + NAMED.partition("mutation Track { ")[2]
    sent = {"extensions": persisted(sha(mutation))}
    assert (await post(workspace, query=mutation, **sent)).json() == {
        "data": {"trackEvent": {"event": {"name": "did"}}}
    }
    assert outcome(await get(workspace, **sent)) == (405, "BAD_REQUEST")


async def test_documents_are_registered_on_sockets_too(workspace: Any) -> None:
    text = ASK + " # registered on a socket"
    async with websockets.connect(
        workspace.gateway.url.replace("http:", "ws:"), subprotocols=["graphql-transport-ws"]
    ) as socket:  # type: ignore[list-item]

        async def send(**message: Any) -> Any:
            await socket.send(orjson.dumps(message).decode())
            return orjson.loads(await socket.recv())

        init = await send(type="connection_init", payload={"authorization": f"Bearer {workspace.key}"})
        assert init == {"type": "connection_ack"}
        by_hash = {"query": "", "extensions": persisted(sha(text))}
        unknown = await send(type="subscribe", id="1", payload=by_hash)
        assert (unknown["type"], unknown["payload"][0]["message"]) == ("error", "PersistedQueryNotFound")
        for payload in ({**by_hash, "query": text}, by_hash):
            answer = await send(type="subscribe", id="1", payload=payload)
            assert answer["payload"] == {"data": {"viewer": {"workspace": {"id": workspace.id}}}}
            assert orjson.loads(await socket.recv()) == {"type": "complete", "id": "1"}
        await socket.send('{"type": "subscribe", "id": "1", "payload": {"extensions": 1}}')
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 4400


async def test_where_no_documents_are_kept_clients_are_told_to_send_them(open_gateway: Any) -> None:
    async with open_gateway(persisted_queries=0) as gateway:
        workspace = await gateway.workspace()
        by_hash = {"extensions": persisted(sha(ASK))}
        for _ in range(2):
            for send in (post, get):
                refused = await send(workspace, **by_hash)
                assert outcome(refused) == (200, "PERSISTED_QUERY_NOT_SUPPORTED")
                assert refused.json()["errors"][0]["message"] == "PersistedQueryNotSupported"
            assert (await post(workspace, query=ASK, **by_hash)).status_code == 200


def test_what_is_kept_is_bounded_in_number_and_in_length() -> None:
    documents = opened(None, persisted_queries=3)

    def known(text: str) -> bool:
        try:
            return documents.text({"extensions": persisted(sha(text))}) == text
        except PersistedQueryNotFoundError:
            return False

    def register(text: str) -> None:
        sent = {"query": text, "extensions": persisted(sha(text))}
        assert documents.text(sent) == text
        documents.register(sent)

    for number in range(3):
        register(f"text {number}")
    assert known("text 0")
    register("text 3")
    assert [known(f"text {number}") for number in range(4)] == [True, False, True, True]
    long = "x" * 32_000
    register(long)
    assert [known(text) for text in ("text 0", "text 2", "text 3", long)] == [False, False, False, True]
    register("y" * 48_000)
    assert [known(text) for text in (long, "y" * 48_000)] == [True, False]


def opened(path: Path | None, **settings: Any) -> PersistedDocuments:
    schema = build_schema().core
    made = Settings(trusted_documents=path, **settings)
    return PersistedDocuments(made, schema, OperationLimits(schema, made))


def test_apollos_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    operation = {"id": sha(OTHER), "name": "Other", "type": "query", "body": OTHER}
    path.write_bytes(orjson.dumps(apollo(operation, {"id": "b", "body": ASK})))
    documents = opened(path, only_trusted_documents=True)
    assert [documents.text({"documentId": id_}) for id_ in (sha(OTHER), "b")] == [OTHER, ASK]


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (b"{", "The manifest .* is not JSON: "),
        (b"[" * 100_000, "The manifest .* is not JSON: "),
        ([], r"The manifest .* is invalid \(Input should be a valid dictionary\): "),
        ({"a": 1}, r"The manifest .* is invalid at 'a' \(Input should be a valid string\): "),
        (apollo(version=2), r"The manifest .* is invalid at 'version' \(Input should be 1\): "),
        (apollo(format="mine"), "The manifest .* is invalid at 'format' "),
        (apollo({"id": "a"}), r"The manifest .* is invalid at 'operations.0.body' \(Field required\): "),
        (
            apollo({"id": "a", "body": ASK}, {"id": "a", "body": OTHER}),
            "The document 'a' in .* cannot be trusted: two documents have this id: ",
        ),
        ({sha(ASK): OTHER}, f"The document '{sha(ASK)}' in .*: the SHA-256 of its text is {sha(OTHER)}: "),
        ({"sha256:abc": OTHER}, f"The document 'sha256:abc' in .*: the SHA-256 of its text is {sha(OTHER)}: "),
        ({"a": "{ viewer {"}, "The document 'a' in .* cannot be trusted: Syntax Error: Expected Name, found <EOF>: "),
        (
            {"a": "{ nothing }"},
            "The document 'a' in .* cannot be trusted: Cannot query field 'nothing' on type 'Query': ",
        ),
        ({"a": "fragment F on Viewer { id }"}, "The document 'a' in .*: Fragment 'F' is never used: "),
        ({"a": ""}, "The document 'a' in .*: Syntax Error: Unexpected <EOF>: "),
        (
            {
                "a": "query A { contacts(first: 100) { nodes { events(first: 100) { nodes { contact { events(first: 100) { nodes { id } } } } } } } }"
            },
            "The document 'a' in .*: The operation may return .* rows; the limit is 50000: ",
        ),
    ],
)
def test_a_manifest_that_is_wrong_stops_the_start_with_its_entry_and_the_fix(
    tmp_path: Path, manifest: Any, told: str
) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(manifest if isinstance(manifest, bytes) else orjson.dumps(manifest))
    with pytest.raises(StartupError) as caught:
        opened(path)
    assert re.match(told, str(caught.value)), str(caught.value)
    assert str(caught.value).endswith(
        ": let the clients' build write the manifest again with the schema of this version."
    )
    assert "\n" not in str(caught.value)


def test_only_trusted_documents_need_a_manifest_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="set GATEWAY_TRUSTED_DOCUMENTS"):
        opened(None, only_trusted_documents=True)
    with pytest.raises(StartupError, match=r"cannot be read \(No such file or directory\)"):
        opened(tmp_path / "absent.json")
    with pytest.raises(StartupError, match=r"cannot be read \(Is a directory\)"):
        opened(tmp_path)


def test_serve_says_what_is_wrong_with_its_manifest_before_it_starts(program: Any, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"a": "{ nothing }"}')
    environment = {"GATEWAY_MONGO_URI": "mongodb://127.0.0.1:1/", "GATEWAY_TRUSTED_DOCUMENTS": "manifest.json"}
    done = program.run("serve", **environment)
    assert done.returncode == 1
    assert done.stderr == (
        "The document 'a' in manifest.json cannot be trusted: Cannot query field 'nothing' on type 'Query': "
        "let the clients' build write the manifest again with the schema of this version.\n"
    )
