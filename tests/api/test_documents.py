"""Documents that a request names instead of sending them: trusted ones of a manifest, and those that clients registered."""

import hashlib
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
import websockets

from gateway.documents import Documents
from gateway.errors import StartupError
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


def opened(path: Path | None, **settings: Any) -> Documents:
    schema = build_schema().core
    made = Settings(trusted_documents=path, **settings)
    return Documents(made, schema, OperationLimits(schema, made))


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
        ([], r"The manifest .* is not usable \(Input should be a valid dictionary\): "),
        ({"a": 1}, r"The manifest .* is not usable at 'a' \(Input should be a valid string\): "),
        (apollo(version=2), r"The manifest .* is not usable at 'version' \(Input should be 1\): "),
        (apollo(format="mine"), "The manifest .* is not usable at 'format' "),
        (apollo({"id": "a"}), r"The manifest .* is not usable at 'operations.0.body' \(Field required\): "),
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
            "The document 'a' in .*: The operation may show .* rows, and 50000 are allowed: ",
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
        ": have the clients' build write the manifest anew, against the schema of this version."
    )
    assert "\n" not in str(caught.value)


def test_only_trusted_documents_need_a_manifest_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="name it with GATEWAY_TRUSTED_DOCUMENTS"):
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
        "have the clients' build write the manifest anew, against the schema of this version.\n"
    )
