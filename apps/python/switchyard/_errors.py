# SPDX-License-Identifier: Apache-2.0
"""Exceptions: one class to catch, and one for input the caller can put right."""

from __future__ import annotations

#: Codes that mean "this input or option is wrong": these raise InputError.
INPUT_CODES = frozenset(
    {"invalid_argument", "shape", "dtype", "nonfinite", "overflow", "usage", "config"}
)


class Error(RuntimeError):
    """A call failed; `code` says what kind of failure, the text what to do.

    Attributes:
        code: stable name, such as "shape", "nonfinite", "unsupported", "backend" or "io".
        message: the text without file, line and excerpt.
        file, line, column: where, for configuration files; None where unknown.
        index: flat index of the offending element ("nonfinite", "overflow"); None where unknown.
    """

    def __init__(
        self,
        text: str,
        code: str = "internal",
        *,
        message: str | None = None,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        index: int | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.message = text if message is None else message
        self.file = file
        self.line = line
        self.column = column
        self.index = index


class InputError(Error, ValueError):
    """The input is wrong: shape, dtype, non-finite values, an option out of range, bad YAML."""


def make(
    code: str, text: str, message: str, file: str, line: int, column: int, index: int
) -> Error:
    """The exception for an error of the core (0, "" and -1 mean unknown there)."""
    cls = InputError if code in INPUT_CODES else Error
    return cls(
        text,
        code,
        message=message,
        file=file or None,
        line=line or None,
        column=column or None,
        index=index if index >= 0 else None,
    )
