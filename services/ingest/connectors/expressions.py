"""JMESPath, compiled when a manifest is read, so that a typing mistake is found there and not in a run."""

import jmespath
from jmespath.exceptions import JMESPathError


class ExpressionError(ValueError):
    """The expression cannot be read, or not be applied to a record."""


class Expression:
    """A JMESPath expression.

    Source: https://jmespath.org/specification.html; no functions of our own.
    """

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        """Raises ExpressionError for what is not JMESPath."""
        self.text = text
        try:
            self._compiled = jmespath.compile(text)
        except JMESPathError as error:
            raise ExpressionError(f"is not JMESPath: {_one_line(error)}") from error

    def find(self, value: object) -> object:
        """What the expression finds in a JSON value; None where nothing is there.

        Raises ExpressionError when a function is given the wrong type.
        """
        try:
            found: object = self._compiled.search(value)
        except JMESPathError as error:
            raise ExpressionError(f"{self.text!r} cannot be applied: {_one_line(error)}") from error
        return found

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
