"""Templates of messages: what they show, what is refused when they are saved, and what the sandbox holds against."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.domain.contacts.contacts import new_contact
from gateway.domain.messages.liquid_sandbox import MAX_TEXT_BYTES
from gateway.domain.messages.templates import MAX_TEMPLATE_LENGTH, TemplateError, Templates, template_data
from gateway.errors import ErrorCode, UserProblem

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ADA = new_contact("con_1", "wsp_1", NOW) | {
    "role": "USER",
    "first_name": "Ada",
    "email": "ada@example.com",
    "location": {"city": "London"},
    "tags": ["vip", "early"],
    "custom_attributes": {"plan": "pro", "seats": 5, "nested": {"a": [1, {"b": 2}]}},
    "identities": ["external_id:secret"],
}
ORDER = {
    "name": "placed order",
    "occurred_at": NOW,
    "metadata_json": {
        "plan": "pro",
        "price": {"amount": 4999, "currency": "EUR"},
        "order": {"url": "https://shop.example/1", "value": "No. 1"},
        "items": [{"name": "pen", "qty": 2}, {"name": "ink", "qty": 1}],
        "renewal_date": 1767225600,
        "at": "2026-01-31T09:30:00+01:00",
        "html": "<script>alert(1)</script>",
        "liquid": "{{ contact.email }}{% for %}",
        "big": "x" * 20_000,
        "many": list(range(900)),
    },
}


def render(text: str, event: dict[str, Any] | None = ORDER, seconds: float = 5.0) -> str:
    templates = Templates(seconds)
    templates.check(text, ("body",), event=event is not None)
    return templates.render(text, template_data(ADA, event, 3))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hello {{ contact.firstName }}!", "Hello Ada!"),
        ('Hello {{ contact.lastName | default: "there" }}', "Hello there"),
        ("{{ contact.displayName }} of {{ contact.location.city }}", "Ada of London"),
        ("{{ contact.customAttributes.plan | upcase }}/{{ contact.customAttributes.seats | plus: 1 }}", "PRO/6"),
        ("{{ contact.customAttributes.nested }}", '{"a":[1,{"b":2}]}'),
        ("{{ contact.customAttributes['plan'] }}", "pro"),
        ("{{ contact.tags | join: ', ' }}", "vip, early"),
        ("{{ contact.customAttributes.nothing.at.all }}", ""),
        ("{{ event.name }} x{{ event.count }}", "placed order x3"),
        ("{{ event.metadata.price }}", "€49.99"),
        ("{{ event.metadata.price.amount | divided_by: 100.0 }}", "49.99"),
        ("{{ event.metadata.order }}", "https://shop.example/1"),
        ("{% for item in event.metadata.items %}{{ item.qty }} {{ item.name }};{% endfor %}", "2 pen;1 ink;"),
        ("{% for i in event.metadata.items reversed %}{{ forloop.index }}{{ i.name }}{% endfor %}", "1ink2pen"),
        ("{{ event.metadata.items | map: 'name' | join: '+' }}", "pen+ink"),
        ("{{ event.occurredAt }}", "2026-03-04T05:06:07Z"),
        ("{{ event.occurredAt | date: '%d %B %Y' }}", "04 March 2026"),
        ("{{ event.metadata.at | date: '%H:%M' }}", "08:30"),
        ("{{ event.metadata.renewal_date | date }}", "2026-01-01"),
        ("{{ event.metadata.plan | date: '%Y' }}", "pro"),
        ("{{ contact.signedUpAt | date: '%Y' }}", ""),
        ("{% if event.count > 2 and contact.role == 'USER' %}yes{% else %}no{% endif %}", "yes"),
        ("{% unless contact.phone %}no phone{% endunless %}", "no phone"),
        ("{% case event.metadata.plan %}{% when 'pro' %}P{% else %}other{% endcase %}", "P"),
        ("{% assign n = event.count | times: 2 %}{{ n }}", "6"),
        ("{% capture who %}{{ contact.firstName }}!{% endcapture %}{{ who }}{{ who }}", "Ada!Ada!"),
        ("{% comment %} {{ nothing }} {% endcomment %}text", "text"),
        ("  a\n{{ contact.firstName }}  \n", "a\nAda"),
        ("100 % { } }} of %}", "100 % { } }} of %}"),
    ],
)
def test_what_templates_show(text: str, shown: str) -> None:
    assert render(text) == shown


def test_what_was_tracked_is_written_as_it_is_and_is_no_template() -> None:
    assert render("{{ event.metadata.html }}") == "<script>alert(1)</script>"
    assert render("{{ event.metadata.liquid }}") == "{{ contact.email }}{% for %}"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("{{ contact.firstName", 1, "'{{' is not closed by '}}'"),
        ("one\ntwo {% if contact.email", 2, "'{%' is not closed by '%}'"),
        ("one\n{{ contact.name {{ contact.email }}", 2, "'{{' is not closed by '}}'"),
        ("{% if contact.email %}x", 1, "expected tag endif, found end of expression"),
        ("a\n\n{{ contact.name | upcse }}", 3, "unknown filter 'upcse': did you mean 'upcase'?"),
        ("{{ contact.name | base64_decode }}", 1, "unknown filter 'base64_decode'"),
        ("{{ contact.name | safe }}", 1, "unknown filter 'safe'"),
        (
            "{{ contact.name | upcase: 1 }}",
            1,
            "the filter 'upcase' has wrong arguments: too many positional arguments",
        ),
        (
            "{{ contact.name | append }}",
            1,
            "the filter 'append' has wrong arguments: missing a required argument: 'arg'",
        ),
        ("{% include 'x' %}", 1, "unexpected tag 'include'"),
        ("{% render 'x' %}", 1, "unexpected tag 'render'"),
        ("{% layout 'x' %}", 1, "unexpected tag 'layout'"),
        ("{% increment x %}", 1, "unexpected tag 'increment'"),
        ("{% tablerow a in contact.tags %}{% endtablerow %}", 1, "unexpected tag 'tablerow'"),
        ("{% liquid\nassign a = 1 %}", 1, "unexpected tag 'liquid'"),
        ("{% raw %}{{ x }}{% endraw %}", 1, "unexpected tag 'raw'"),
        ("a\n{% doc %}x{% enddoc %}", 2, "unexpected tag 'doc'"),
        ("{% %}", 1, "missing tag name or closing delimiter"),
        ("{{ }}", 1, "expected a primitive expression, found end of expression"),
        ("{% for x in (1..9) %}{% endfor %}", 1, "ranges such as (1..9) are not allowed"),
        ("{% assign r = (1..contact.name) %}", 1, "ranges such as (1..9) are not allowed"),
        ("{{ kontact.name }}", 1, "'kontact' is unknown here: a template reads contact and event"),
        ("{{ now }}", 1, "'now' is unknown here: a template reads contact and event"),
        ("{{ today | date: '%Y' }}", 1, "'today' is unknown here: a template reads contact and event"),
        ("{{ [contact.name] }}", 1, "a computed name is unknown here: a template reads contact and event"),
        ("\n{{ contact.fristName }}", 2, "'contact.fristName' is unknown: did you mean 'contact.firstName'?"),
        ("{{ contact.workspace_id }}", 1, "'contact.workspace_id' is unknown"),
        ("{{ contact.identities }}", 1, "'contact.identities' is unknown"),
        ("{{ contact['__class__'] }}", 1, "'contact.__class__' is unknown"),
        ("{{ contact.__class__.__mro__ }}", 1, "'contact.__class__' is unknown"),
        ("{{ event.identity }}", 1, "'event.identity' is unknown"),
        ("{{ contact.name | append: contact.passwort }}", 1, "'contact.passwort' is unknown"),
        ("{% if contact.emial == 'x' %}{% endif %}", 1, "'contact.emial' is unknown: did you mean 'contact.email'?"),
        ("{{ " + "a" * 600 + " }}", 1, "the text between '{{' and '}}' is longer than 500 characters"),
        ("{% if contact.email %}" * 40 + "{% endif %}" * 40, 1, "block nesting limit reached"),
        ("{{ contact.name & 1 }}", 1, "unexpected '&'"),
        ("{{ contact.name if contact.email }}", 1, "disallowed ternary expression"),
    ],
)
def test_what_cannot_work_is_told_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(UserProblem) as problem:
        Templates().check(text, ("body",), event=True)
    assert problem.value.code == ErrorCode.INVALID
    assert problem.value.path == ("body",)
    end = "" if reason.endswith("?") else "."
    assert problem.value.message == f"The body is invalid in line {line}: {reason}{end}"


def test_an_event_is_there_only_where_one_sets_the_message_off() -> None:
    with pytest.raises(UserProblem) as problem:
        Templates().check("a\n{{ event.name }}", ("subject",), event=False)
    assert problem.value.message == (
        "The subject is invalid in line 2: 'event' is unknown here: this message has no event."
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (" \n", "INVALID"),
        ("x" * (MAX_TEMPLATE_LENGTH + 1), "LIMIT_EXCEEDED"),
        ("\0", "INVALID"),
        ("a\ud800", "INVALID"),
    ],
)
def test_what_is_no_text_of_a_template(text: str, code: str) -> None:
    with pytest.raises(UserProblem) as problem:
        Templates().check(text, ("body",), event=True)
    assert (problem.value.code, problem.value.path) == (code, ("body",))


MANY = "{% for a in event.metadata.many %}"
ATTACKS = {
    "nested loops": (MANY * 3 + "x" + "{% endfor %}" * 3, "it runs its loops more than 1000 times"),
    "loops in a row": ((MANY + "{% endfor %}") * 2, "it runs its loops more than 1000 times"),
    "much output": ("{{ event.metadata.big }}" * 2, f"its output has more than {MAX_TEXT_BYTES} bytes"),
    "captured output": (
        "{% capture a %}{{ event.metadata.big }}{% endcapture %}" + "{{ a }}" * 2,
        f"its output has more than {MAX_TEXT_BYTES} bytes",
    ),
    "doubling": (
        "{% assign a = 'xxxxxxxxxx' %}" + "{% assign a = a | append: a %}" * 40,
        "the filter 'append' returns a value that is too large",
    ),
    "replacing nothing": (
        "{{ event.metadata.big | replace: '', event.metadata.big }}",
        "the filter 'replace' returns a text that is too long",
    ),
    "replacing all": (
        "{{ event.metadata.big | replace: 'x', event.metadata.big }}",
        "the filter 'replace' returns a text that is too long",
    ),
    "joining": (
        "{{ event.metadata.many | join: event.metadata.big }}",
        "the filter 'join' returns a text that is too long",
    ),
    "splitting": (
        "{{ event.metadata.big | split: '' | size }}",
        "the filter 'split' returns a value that is too large",
    ),
    "large numbers": (
        "{% assign a = 9999999999 %}" + "{% assign a = a | times: a %}" * 30,
        "the filter 'times' returns a value that is too large",
    ),
    "many names": (
        "".join(f"{{% assign a{n} = event.metadata.big %}}" for n in range(9)),
        "local namespace limit reached",
    ),
    "dividing by zero": ("{{ event.count | divided_by: 0 }}", "divided_by: can't divide by 0"),
    "no number": ("{{ '9e999' | ceil }}", "OverflowError: cannot convert float infinity to integer"),
    "break alone": ("{% break %}", "unexpected 'break'"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_sandbox_holds(name: str) -> None:
    text, reason = ATTACKS[name]
    began = time.thread_time()
    with pytest.raises(TemplateError) as error:
        render(text)
    assert str(error.value) == reason
    assert time.thread_time() - began < 2


def test_time_is_limited() -> None:
    slow = "{{ event.metadata.big | replace: 'x', 'y' | upcase | downcase | squish }}" * 100
    silent = "{% capture a %}" + "{% for a in event.metadata.many %}" + slow + "{% endfor %}{% endcapture %}"
    began = time.thread_time()
    with pytest.raises(TemplateError, match="it takes too long"):
        render(silent.replace("{{ ", "{% assign b = ").replace(" }}", " %}"), seconds=0.05)
    assert time.thread_time() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        "{{" * (MAX_TEMPLATE_LENGTH // 2),
        "{{" + " " * (MAX_TEMPLATE_LENGTH - 2),
        "{{ x " * (MAX_TEMPLATE_LENGTH // 5),
        "{% raw %}" * (MAX_TEMPLATE_LENGTH // 9),
        "{%- comment -%}" * (MAX_TEMPLATE_LENGTH // 15),
        ("{{" + " " * 490 + "}}") * 20,
        ("{{ contact" + "[contact" * 60 + "]" * 60 + " }}") * 10,
        "{{ contact.name" + "|upcase" * 60 + " }}" + "{" * 9000,
        "{{ " + "'" * 490 + " }}",
        "{{ " + "(" * 490 + " }}",
    ],
)
def test_reading_a_template_takes_no_longer_than_its_length_allows(text: str) -> None:
    began = time.thread_time()
    with pytest.raises(UserProblem):
        Templates().check(text + "{% end %}", ("body",), event=True)
    assert time.thread_time() - began < 1


def test_paths_that_are_computed_reach_nothing_else() -> None:
    event = {**ORDER, "metadata_json": {"key": "__class__", "other": "workspace_id"}}
    assert render("[{{ contact[event.metadata.key] }}{{ contact[event.metadata.other] }}]", event) == "[]"
    assert render("[{{ contact.firstName.__class__ }}{{ contact.tags.append }}{{ contact.email.size }}]") == "[15]"


def test_no_machine_clock_is_within_reach() -> None:
    templates = Templates()
    assert templates.render("[{{ now }}{{ today }}{{ partial }}]", template_data(ADA, None)) == "[false]"
    shown = templates.render("{{ 'now' | date: '%Y' }}", template_data(ADA, None))
    assert shown == "now"
    assert (datetime.now(UTC) - NOW) > timedelta(0)
