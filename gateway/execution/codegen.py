"""Generates the Python of a plan: one function per selection set, specialized for the types of its fields."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graphql import GraphQLEnumType, get_nullable_type, is_leaf_type

from gateway.execution.completion import Complete, PassThrough, finisher
from gateway.execution.execution_run import PENDING
from gateway.execution.fields import PlannedField, ReadMode

# When a built-in scalar needs no coercion. graphql-core coerces every other value.
_UNCHANGED = {
    "String": "type({0}) is str",
    "ID": "type({0}) is str",
    "Boolean": "type({0}) is bool",
    "Int": "type({0}) is int and -2147483648 <= {0} <= 2147483647",
    "Float": "type({0}) is float and {0} - {0} == 0.0",
}
_INDENT = "    "


def reader(source: Any) -> Callable[[str], Any]:
    """Return a `get` for a source that is not a plain dict; it returns an exception instead of raising it."""

    def get(key: str) -> Any:
        try:
            return source.get(key)
        except Exception as error:
            return error

    return get


@dataclass(slots=True)
class Source:
    """The source lines of one generated function, and the objects that its names refer to."""

    lines: list[str] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=lambda: {"PENDING": PENDING, "reader": reader})

    def function(self, file: str) -> tuple[str, Any]:
        text = "\n".join(self.lines) + "\n"
        exec(compile(text, file, "exec"), self.names)  # noqa: S102 - all names come from the schema or match GraphQL's grammar
        return text, self.names.pop("select")  # popped to avoid a reference cycle


def selection(
    title: str,
    fields: list[PlannedField],
    completers: list[Complete],
    key_of: Callable[[str], str],
    *,
    each: bool = False,
) -> Source:
    """Generate the function that completes these fields of one object, or with `each` of every object in a list."""
    source = Source()
    source.names |= {f"field_{planned.key}": planned for planned in fields}
    source.names |= {
        f"finish_{planned.key}": finisher(planned, complete)
        for planned, complete in zip(fields, completers, strict=True)
    }
    body: list[str] = []
    for planned in fields:
        body += _READERS[planned.of.reading](planned, source.names, key_of)
    waits = [planned for planned in fields if planned.of.reading is ReadMode.BATCH]
    source.names |= {
        f"complete_{planned.key}": complete
        for planned, complete in zip(fields, completers, strict=True)
        if planned.of.reading is ReadMode.BATCH
    }
    result = "{" + ", ".join(f"{planned.key!r}: {_variable(planned)}" for planned in fields) + "}"
    if any(planned.of.reading is ReadMode.KEY or (planned.batched and planned.batched.by) for planned in fields):
        get = "source.get" if each else "source.get if type(source) is dict else reader(source)"
        body.insert(0, f"get = {get}")
    if waits:
        body.append(f"result = {result}")
        body += [line for planned in waits for line in _deferred(planned)]
        result = "result"
    if not each:
        body.append(f"return {result}")
        source.lines = [f"def select(source, run, path):  # {title}", *(_INDENT + line for line in body)]
    else:
        body.append(f"add({result})")
        source.lines = _loop(title, body)
    return source


def _loop(title: str, body: list[str]) -> list[str]:
    """Wrap the body in a loop over a list. `item` completes every item that is not a plain dict."""
    return [
        f"def select(sources, run, above, nullable, item, of_list):  # each of {title}",
        f"{_INDENT}results = []",
        f"{_INDENT}add = results.append",
        f"{_INDENT}for index, source in enumerate(sources):",
        f"{_INDENT * 2}path = (above, index, None, nullable)",
        f"{_INDENT * 2}if type(source) is not dict:",
        f"{_INDENT * 3}add(item(source, run, path))",
        f"{_INDENT * 3}continue",
        f"{_INDENT * 2}try:",
        *(_INDENT * 3 + line for line in body),
        f"{_INDENT * 2}except Exception as error:",
        f"{_INDENT * 3}add(run.fail(error, of_list, path))",
        f"{_INDENT}return results",
    ]


def _variable(planned: PlannedField) -> str:
    if planned.of.reading is ReadMode.TYPE_NAME:
        return repr(planned.parent.name)
    return "PENDING" if planned.of.reading is ReadMode.BATCH else f"v_{planned.key}"


def _key(planned: PlannedField, names: dict[str, Any], key_of: Callable[[str], str]) -> list[str]:
    declared = planned.of.declared
    assert declared is not None  # noqa: S101 - only declared fields are read by key
    read = f"get({key_of(declared.python_name)!r})"
    if planned.check is not None:
        read = f"run.denial(field_{planned.key}) or {read}"
    return [f"v_{planned.key} = {read}", *_completed(planned, names)]


def _function(planned: PlannedField, names: dict[str, Any], _key_of: Callable[[str], str]) -> list[str]:
    names[f"call_{planned.key}"] = planned.of.function
    refused = (
        []
        if planned.check is None
        else [f"v_{planned.key} = run.denial(field_{planned.key})", f"if v_{planned.key} is None:"]
    )
    call = [
        "try:",
        f"{_INDENT}v_{planned.key} = call_{planned.key}(source)",
        "except Exception as error:",
        f"{_INDENT}v_{planned.key} = error",
    ]
    return [*refused, *((_INDENT + line if refused else line) for line in call), *_completed(planned, names)]


def _resolver(planned: PlannedField, _names: dict[str, Any], _key_of: Callable[[str], str]) -> list[str]:
    return [f"v_{planned.key} = finish_{planned.key}(run.resolve(field_{planned.key}, source, path), run, path)"]


def _nothing(_planned: PlannedField, _names: dict[str, Any], _key_of: Callable[[str], str]) -> list[str]:
    return []


_READERS = {
    ReadMode.TYPE_NAME: _nothing,
    ReadMode.BATCH: _nothing,
    ReadMode.KEY: _key,
    ReadMode.FUNCTION: _function,
    ReadMode.RESOLVER: _resolver,
}


def _deferred(planned: PlannedField) -> list[str]:
    by = planned.batched.by if planned.batched else None
    argument = "source" if by is None else f"get({by!r})"
    return [f"run.defer(field_{planned.key}, complete_{planned.key}, {argument}, path, result)"]


def _completed(planned: PlannedField, names: dict[str, Any]) -> list[str]:
    """Return the lines that complete `v_<key>`: inline where the type allows it, else by a call of `finish_<key>`."""
    type_, name = get_nullable_type(planned.definition.type), f"v_{planned.key}"
    finish = f"{name} = finish_{planned.key}({name}, run, path)"
    if not is_leaf_type(type_):
        return [finish]
    if type_.name in _UNCHANGED:
        return _unless(_UNCHANGED[type_.name].format(name), planned, finish)
    if isinstance(type_, GraphQLEnumType):
        names[f"names_{planned.key}"] = _names_of(type_)
        lines = [
            f"w = names_{planned.key}.get({name}) if type({name}) is str else None",
            f"if w is not None: {name} = w",
        ]
        return [*lines, f"elif {name} is not None: {finish}" if planned.nullable else f"else: {finish}"]
    serializer = type_.coerce_output_value
    if not isinstance(serializer, PassThrough):
        return [finish]
    names |= serializer.names
    return _unless(serializer.condition.format(name), planned, finish)


def _unless(condition: str, planned: PlannedField, finish: str) -> list[str]:
    if planned.nullable:
        return [f"if v_{planned.key} is not None and not ({condition}): {finish}"]
    return [f"if not ({condition}): {finish}"]


def _names_of(type_: GraphQLEnumType) -> dict[str, str]:
    return {value.value: name for name, value in type_.values.items() if type(value.value) is str}
