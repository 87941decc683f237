"""The Python that a plan consists of: one function for each selection set, written for the types of its fields."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graphql import GraphQLEnumType, get_nullable_type, is_leaf_type

from gateway.execution.completion import Complete, PassThrough, finisher
from gateway.execution.execution_run import PENDING
from gateway.execution.fields import PlannedField, ReadMode

# What a value of a built-in scalar must be to be sent as it is; all else is left to graphql-core's own coercion.
_UNCHANGED = {
    "String": "type({0}) is str",
    "ID": "type({0}) is str",
    "Boolean": "type({0}) is bool",
    "Int": "type({0}) is int and -2147483648 <= {0} <= 2147483647",
    "Float": "type({0}) is float and {0} - {0} == 0.0",
}
_INDENT = "    "


def reader(source: Any) -> Callable[[str], Any]:
    """How keys of what is not a plain dictionary are read; what goes wrong is the value, and an error where it stands."""

    def get(key: str) -> Any:
        try:
            return source.get(key)
        except Exception as error:
            return error

    return get


@dataclass(slots=True)
class Source:
    """The source of one function, and the values that it names."""

    lines: list[str] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=lambda: {"PENDING": PENDING, "reader": reader})

    def function(self, file: str) -> tuple[str, Any]:
        """The text, and what it compiles to."""
        text = "\n".join(self.lines) + "\n"
        exec(compile(text, file, "exec"), self.names)  # noqa: S102 - of names that the schema and GraphQL's grammar allow alone
        return text, self.names.pop("select")  # its names would hold it, and it holds them


def selection(
    title: str,
    planned: list[PlannedField],
    completers: list[Complete],
    key_of: Callable[[str], str],
    *,
    each: bool = False,
) -> Source:
    """The function that answers with those fields for one object, or for `each` object of a list."""
    source = Source()
    source.names |= {f"field_{one.key}": one for one in planned}
    source.names |= {
        f"finish_{one.key}": finisher(one, complete) for one, complete in zip(planned, completers, strict=True)
    }
    body: list[str] = []
    for one in planned:
        body += _READERS[one.of.reading](one, source.names, key_of)
    waits = [one for one in planned if one.of.reading is ReadMode.BATCH]
    source.names |= {
        f"complete_{one.key}": complete
        for one, complete in zip(planned, completers, strict=True)
        if one.of.reading is ReadMode.BATCH
    }
    answer = "{" + ", ".join(f"{one.key!r}: {_variable(one)}" for one in planned) + "}"
    if any(one.of.reading is ReadMode.KEY or (one.batched and one.batched.by) for one in planned):
        get = "source.get" if each else "source.get if type(source) is dict else reader(source)"
        body.insert(0, f"get = {get}")
    if waits:
        body.append(f"answer = {answer}")
        body += [line for one in waits for line in _deferred(one)]
        answer = "answer"
    if not each:
        body.append(f"return {answer}")
        source.lines = [f"def select(source, run, place):  # {title}", *(_INDENT + line for line in body)]
    else:
        body.append(f"add({answer})")
        source.lines = _loop(title, body)
    return source


def _loop(title: str, body: list[str]) -> list[str]:
    """The function of a list: `item` is for what is no plain dictionary, and fails or waits by itself."""
    return [
        f"def select(sources, run, above, nullable, item, of_list):  # each of {title}",
        f"{_INDENT}answers = []",
        f"{_INDENT}add = answers.append",
        f"{_INDENT}for index, source in enumerate(sources):",
        f"{_INDENT * 2}place = (above, index, None, nullable)",
        f"{_INDENT * 2}if type(source) is not dict:",
        f"{_INDENT * 3}add(item(source, run, place))",
        f"{_INDENT * 3}continue",
        f"{_INDENT * 2}try:",
        *(_INDENT * 3 + line for line in body),
        f"{_INDENT * 2}except Exception as error:",
        f"{_INDENT * 3}add(run.fail(error, of_list, place))",
        f"{_INDENT}return answers",
    ]


def _variable(one: PlannedField) -> str:
    if one.of.reading is ReadMode.TYPE_NAME:
        return repr(one.parent.name)
    return "PENDING" if one.of.reading is ReadMode.BATCH else f"v_{one.key}"


def _key(one: PlannedField, names: dict[str, Any], key_of: Callable[[str], str]) -> list[str]:
    declared = one.of.declared
    assert declared is not None  # noqa: S101 - only declared fields are read by their key
    read = f"get({key_of(declared.python_name)!r})"
    if one.check is not None:
        read = f"run.denial(field_{one.key}) or {read}"
    return [f"v_{one.key} = {read}", *_completed(one, names)]


def _function(one: PlannedField, names: dict[str, Any], _key_of: Callable[[str], str]) -> list[str]:
    names[f"call_{one.key}"] = one.of.function
    refused = [] if one.check is None else [f"v_{one.key} = run.denial(field_{one.key})", f"if v_{one.key} is None:"]
    call = [
        "try:",
        f"{_INDENT}v_{one.key} = call_{one.key}(source)",
        "except Exception as error:",
        f"{_INDENT}v_{one.key} = error",
    ]
    return [*refused, *((_INDENT + line if refused else line) for line in call), *_completed(one, names)]


def _resolver(one: PlannedField, _names: dict[str, Any], _key_of: Callable[[str], str]) -> list[str]:
    return [f"v_{one.key} = finish_{one.key}(run.resolve(field_{one.key}, source, place), run, place)"]


def _nothing(_one: PlannedField, _names: dict[str, Any], _key_of: Callable[[str], str]) -> list[str]:
    return []


_READERS = {
    ReadMode.TYPE_NAME: _nothing,
    ReadMode.BATCH: _nothing,
    ReadMode.KEY: _key,
    ReadMode.FUNCTION: _function,
    ReadMode.RESOLVER: _resolver,
}


def _deferred(one: PlannedField) -> list[str]:
    by = one.batched.by if one.batched else None
    given = "source" if by is None else f"get({by!r})"
    return [f"run.defer(field_{one.key}, complete_{one.key}, {given}, place, answer)"]


def _completed(one: PlannedField, names: dict[str, Any]) -> list[str]:
    """The lines that turn the value in `v_<key>` into what is sent: at once where its type allows, else by `finish`."""
    type_, name = get_nullable_type(one.definition.type), f"v_{one.key}"
    finish = f"{name} = finish_{one.key}({name}, run, place)"
    if not is_leaf_type(type_):
        return [finish]
    if type_.name in _UNCHANGED:
        return _unless(_UNCHANGED[type_.name].format(name), one, finish)
    if isinstance(type_, GraphQLEnumType):
        names[f"names_{one.key}"] = _names_of(type_)
        lines = [
            f"w = names_{one.key}.get({name}) if type({name}) is str else None",
            f"if w is not None: {name} = w",
        ]
        return [*lines, f"elif {name} is not None: {finish}" if one.nullable else f"else: {finish}"]
    serializer = type_.coerce_output_value
    if not isinstance(serializer, PassThrough):
        return [finish]
    names |= serializer.names
    return _unless(serializer.condition.format(name), one, finish)


def _unless(condition: str, one: PlannedField, finish: str) -> list[str]:
    if one.nullable:
        return [f"if v_{one.key} is not None and not ({condition}): {finish}"]
    return [f"if not ({condition}): {finish}"]


def _names_of(type_: GraphQLEnumType) -> dict[str, str]:
    """The names of an enum's values, by what is stored."""
    return {value.value: name for name, value in type_.values.items() if type(value.value) is str}
