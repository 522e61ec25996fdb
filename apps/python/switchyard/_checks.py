# SPDX-License-Identifier: Apache-2.0
"""Arguments, checked before they reach the core."""

from __future__ import annotations

import math
import operator
from typing import Any

from ._errors import InputError


def _integer(name: str, value: Any, low: int = -(2**31), high: int = 2**31 - 1) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be an integer, not {value!r}", "invalid_argument") from None
    if not low <= number <= high:
        raise InputError(f"{name} must be in {low}..{high}, not {number}", "invalid_argument")
    return number


def _real(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, not {value!r}", "invalid_argument") from None


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name} must be a string, not {value!r}", "invalid_argument")
    return value


def _positive(name: str, value: Any) -> float:
    number = _finite(name, value)
    if number <= 0:
        raise InputError(f"{name} must be above 0, not {value!r}", "invalid_argument")
    return number


def _finite(name: str, value: Any) -> float:
    number = _real(name, value)
    if not math.isfinite(number):
        raise InputError(f"{name} must be finite, not {value!r}", "invalid_argument")
    return number
