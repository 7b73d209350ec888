"""JMESPath, compiled when a manifest is read, so that a typing mistake is found there and not in a run."""

import math
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, TypeVar

import jmespath
from jmespath.functions import Functions, signature
from jmespath.visitor import Options, TreeInterpreter

LENGTH_MAX: Final = 4_096
PARTS_MAX: Final = 256
"""Characters and parts of one expression; so many parts also nest no deeper than Python can follow."""
STEPS_MAX: Final = 50_000
"""Steps of one budget, some 30 ms: parts visited, and items and texts of whatever is made, copied or compared."""

_TEXT_STEP: Final = 256
_CALL_STEPS: Final = 8
"""Characters that are one step, and steps that a function takes however little it is given."""
_TAKE_A_PART: Final = frozenset({"map", "max_by", "min_by", "sort_by"})
_LOOK_INSIDE: Final = frozenset({"contains", "to_string"})
"""Functions that are given a part unevaluated, and those that read what they are given to its depth."""
_FAULTS: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What the library raises; its own errors are ValueErrors, others come of what cannot be computed, as ceil of NaN."""


V = TypeVar("V")


class ExpressionError(ValueError):
    """The expression cannot be read, or not be applied to a record."""


class Budget:
    """What applying expressions may cost; one for all that are applied to one record."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = STEPS_MAX

    def spend(self, n_steps: int) -> None:
        """Raises ExpressionError where less is left."""
        self.left -= n_steps
        if self.left < 0:
            raise ExpressionError(f"it takes more than {STEPS_MAX} steps")

    def spend_copy(self, value: V) -> V:
        """What a list, an object or a text costs that is copied without what is in it; the value."""
        if isinstance(value, str):
            self.spend(len(value) // _TEXT_STEP)
        elif isinstance(value, list | dict):
            self.spend(len(value))
        return value

    def spend_all(self, value: V) -> V:
        """What a value costs that is read, or written down, to its depth; the value."""
        self.spend_copy(value)
        waiting: list[object] = [value] if isinstance(value, list | dict) else []
        while waiting:
            item = waiting.pop()
            for child in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
                self.spend_copy(child)
                if isinstance(child, list | dict):
                    waiting.append(child)
        return value


class Expression:
    """A JMESPath expression.

    Source: https://jmespath.org/specification.html; beside its functions there are `lower`, `split` and `seconds`.
    """

    __slots__ = ("_n_names", "_tree", "_ways", "text")

    def __init__(self, text: str) -> None:
        """Raises ExpressionError for what is not JMESPath, or too much of it."""
        self.text = text
        if len(text) > LENGTH_MAX:
            raise ExpressionError(f"has {len(text)} characters; at most {LENGTH_MAX}")
        try:
            self._tree: Any = jmespath.compile(text).parsed
        except _FAULTS as error:
            raise ExpressionError(f"is not JMESPath: {_one_line(error)}") from error
        for number, (part, parent) in enumerate(_parts(self._tree), 1):
            if number > PARTS_MAX:
                raise ExpressionError(f"has more than {PARTS_MAX} parts")
            if part["type"] == "expref" and parent not in _TAKE_A_PART:
                raise ExpressionError(f"has an & outside of {', '.join(sorted(_TAKE_A_PART))}")
        self._ways = _ways_of(self._tree)
        self._n_names = sum(map(len, self._ways or ()))

    def find(self, value: object, budget: Budget | None = None) -> object:
        """What the expression finds in a JSON value; None where nothing is there.

        budget: what it may cost; one of its own unless given. Raises ExpressionError, and nothing else, when a
        function is given what it cannot take, or the budget is spent.
        """
        if self._ways is not None:
            # Most are no more than a.b || c, which the interpreter takes ten times as long for.
            if budget is not None:
                budget.spend(self._n_names)
            return _first_of(self._ways, value)
        try:
            found: object = _Interpreter(budget or Budget()).visit(self._tree, value)
        except _FAULTS as error:
            raise ExpressionError(f"{self.text!r} cannot be applied: {_one_line(error)}") from error
        return found

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def is_true(found: object) -> bool:
    """JMESPath's truth: null, false and whatever is empty are not, 0 is."""
    return found is not None and found is not False and found not in ("", [], {})


class _Interpreter(TreeInterpreter):
    """The library's, on a budget: without one, an expression doubles what it makes with every 8 characters."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(_OPTIONS)
        self._budget = budget

    def visit(self, node: Any, value: Any) -> Any:
        budget = self._budget
        budget.left -= 1
        if budget.left < 0:
            budget.spend(0)
        return _VISITS[node["type"]](self, node, value)

    # Where these stand, one value may come to be in several places: it counts with all that is in it.

    def visit_literal(self, node: Any, value: Any) -> Any:
        return self._budget.spend_all(node["value"])

    def visit_multi_select_list(self, node: Any, value: Any) -> Any:
        return self._budget.spend_all(super().visit_multi_select_list(node, value))

    def visit_multi_select_dict(self, node: Any, value: Any) -> Any:
        return self._budget.spend_all(super().visit_multi_select_dict(node, value))

    def visit_flatten(self, node: Any, value: Any) -> Any:
        return self._budget.spend_copy(super().visit_flatten(node, value))

    def visit_slice(self, node: Any, value: Any) -> Any:
        return self._budget.spend_copy(super().visit_slice(node, value))

    def visit_comparator(self, node: Any, value: Any) -> Any:
        # As literals, both sides count before they are compared.
        sides = [{"type": "literal", "value": self.visit(side, value)} for side in node["children"]]
        return super().visit_comparator({"value": node["value"], "children": sides}, value)  # type: ignore[typeddict-item]

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        name, given = node["value"], [self.visit(child, value) for child in node["children"]]
        self._budget.spend(_CALL_STEPS)
        for each in given:
            if name in _LOOK_INSIDE:
                self._budget.spend_all(each)
            else:
                self._budget.spend_copy(each)
        if name == "join" and isinstance(given[0], str) and isinstance(given[-1], list):
            # The separator stands between all items, and is as long as the record likes.
            self._budget.spend(len(given[0]) * len(given[-1]) // _TEXT_STEP)
        if name == "split" and all(isinstance(each, str) for each in given):
            # What is made has as many items as the record likes.
            self._budget.spend(given[0].count(given[1]))
        found = _FUNCTIONS.call_function(name, given)
        return self._budget.spend_copy(found)


_VISITS: Final[dict[str, Callable[[_Interpreter, Any, Any], Any]]] = {
    name.removeprefix("visit_"): getattr(_Interpreter, name)
    for name in dir(_Interpreter)
    if name.startswith("visit_")
}


class _Functions(Functions):
    """The library's, two of those that the community's JMESPath has (https://jmespath.site, JEP-014), and `seconds`."""

    @signature({"types": ["string"]})
    def _func_lower(self, text: str) -> str:
        return text.lower()

    @signature({"types": ["string"]}, {"types": ["string"]})
    def _func_split(self, text: str, separator: str) -> list[str]:
        return text.split(separator)

    @signature({"types": ["string"]})
    def _func_seconds(self, text: str) -> int | None:
        """Whole seconds since 1970 of a time of ISO 8601 that says its zone: one moment, however it is written."""
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        return None if moment.tzinfo is None else math.floor(moment.timestamp())


_FUNCTIONS: Final = _Functions()
_OPTIONS: Final = Options(custom_functions=_FUNCTIONS)


def _ways_of(tree: Any) -> tuple[tuple[str, ...], ...] | None:
    """The names on each way of an expression that only goes from field to field, by one way or else by the next; None
    of any other.
    """
    if tree["type"] == "or_expression":
        before, after = (_ways_of(side) for side in tree["children"])
        return None if before is None or after is None else before + after
    steps = tree["children"] if tree["type"] == "subexpression" else [tree]
    is_way = all(step["type"] == "field" for step in steps)
    return (tuple(step["value"] for step in steps),) if is_way else None


def _first_of(ways: tuple[tuple[str, ...], ...], value: object) -> object:
    """What is at the end of the first way that leads to what JMESPath holds for true; else at that of the last."""
    found: object = None
    for names in ways:
        found = value
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        # Most lead nowhere, which is seen at once.
        if found is not None and is_true(found):
            break
    return found


def _parts(tree: Any) -> Iterator[tuple[Any, str]]:
    """Every part of an expression, with the function that it is given to, if any."""
    waiting = [(tree, "")]
    while waiting:
        part, parent = waiting.pop()
        yield part, parent
        name = part["value"] if part["type"] == "function_expression" else ""
        # A slice has numbers there.
        waiting.extend((child, name) for child in part["children"] if isinstance(child, dict))


def _one_line(error: Exception) -> str:
    try:
        said = str(error)
    except (RecursionError, ValueError):
        # It would show the value, which is nested too deeply, or a number that is too long.
        said = type(error).__name__
    return " ".join(said.split())[:200]
