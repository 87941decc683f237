"""What front ends put into links and images is an address of the web; malformed ones are the caller's problem."""

import json
import uuid
from typing import Any

import pytest

from gateway.core.principals import Scope

CONNECT = "mutation($i: ConnectKlaviyoInput!) { connectKlaviyo(input: $i) { userErrors { code path } } }"
RUNNING_CODE = [
    "javascript:alert(1)", " javascript:alert(1)", "JAVASCRIPT:alert(1)", "java\nscript:alert(1)", "data:text/html,<script>1</script>", "vbscript:x",
    "file:///etc/passwd", "//evil.example/a.png", "a.png", "https:evil.example", "https:\\\\evil.example", "https://[x", "https://a.example/ onerror=x", "ftp://a.example",
]  # fmt: skip
FIELDS = {
    "saveAdmin": ("avatarUrl", {"name": "Eve", "email": "eve@acme.example"}),
    "upsertContact": ("avatarUrl", {"externalId": "u"}),
    "createConversation": ("url", {"contact": {"externalId": "u"}, "body": "hello"}),
}


@pytest.mark.parametrize("url", RUNNING_CODE, ids=ascii)
@pytest.mark.parametrize("name", FIELDS)
async def test_addresses_that_run_code_are_refused(workspace: Any, name: str, url: str) -> None:
    field, input_ = FIELDS[name]
    type_ = name[0].upper() + name[1:] + "Input!"
    document = f"mutation($i: {type_}) {{ {name}(input: $i) {{ userErrors {{ code path }} }} }}"
    for given in (url, "https://example.com/a.png"):
        payload = (await workspace.data(document, {"i": {**input_, field: given}}))[name]
        expected = [] if given is not url else [{"code": "INVALID", "path": ["input", field]}]
        assert payload["userErrors"] == expected


@pytest.mark.parametrize("url", RUNNING_CODE, ids=ascii)
async def test_metadata_makes_no_link_of_them(workspace: Any, url: str) -> None:
    metadata = {"text": url, "object": {"url": url, "value": "click"}, "good": "https://example.com/a"}
    await workspace.track({"contact": {"externalId": "u"}, "name": "did", "metadata": metadata})
    query = '{ contact(by: {externalId: "u"}) { events { nodes { metadata { __typename key } } } } }'
    (event,) = (await workspace.data(query))["contact"]["events"]["nodes"]
    links = [entry["key"] for entry in event["metadata"] if entry["__typename"] == "LinkMetadata"]
    assert links == ["good"]


@pytest.mark.parametrize(
    "url",
    [
        "https://[x", "https://[::1", "https://xn--.klaviyo.com", "https://xn--99zzzz.klaviyo.com", "https://a.klaviyo.com:99999", "https://a.klaviyo.com:x", "https://u:p@a.klaviyo.com",
        "https://u@a.klaviyo.com", "https://a.klaviyo.com\\@evil.example", "https://evil.example#.klaviyo.com", "https://evil.example/.klaviyo.com", "https://a.klaviyo.com?x=", "https://a.klaviyo.com#x",
        "https://a.klaviyo.com/\n", "https://a .klaviyo.com", "https://\ud800.klaviyo.com", "https://a\0.klaviyo.com", "https://[fe80::1%25eth0]", "https://\u00ad.klaviyo.com", "https://" + "a." * 5000 + "klaviyo.com",
        "https://klaviyo.com.evil.example", "https://evilklaviyo.com", "http://a.klaviyo.com", "https://", "", "\u202ehttps://a.klaviyo.com", "javascript://a.klaviyo.com/%0aalert(1)",
    ],
    ids=lambda url: ascii(url)[:40],
)  # fmt: skip
async def test_a_base_url_that_is_not_klaviyos_is_the_callers_problem(workspace: Any, url: str) -> None:
    raw = json.dumps({"query": CONNECT, "variables": {"i": {"apiKey": "pk_0123456789", "baseUrl": url}}}).encode()
    answer = (await workspace.post("", raw=raw)).json()
    assert answer["data"]["connectKlaviyo"]["userErrors"] == [{"code": "INVALID", "path": ["input", "baseUrl"]}]


@pytest.mark.parametrize(
    "origin", ["https://[x", "https://a.example:99999", "null", "https://xn--.example", "[", "https://a\\b"]
)
async def test_a_malformed_origin_is_no_page_of_ours(workspace: Any, origin: str) -> None:
    document = "mutation($i: TrackEventInput!) { trackEvent(input: $i) { userErrors { code } } }"
    event = {"contact": {"anonymousId": uuid.uuid4().hex}, "name": "did"}
    answer = await workspace.ask(document, {"i": event}, key=await workspace.key_with(Scope.BROWSER), origin=origin)
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]
