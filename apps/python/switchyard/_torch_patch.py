# SPDX-License-Identifier: Apache-2.0
"""patch() and unpatch(): attention through Switchyard in the whole process."""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any

import torch

from ._torch_attention import ORIGINAL, Attention

_NAME = "scaled_dot_product_attention"
_lock = threading.RLock()
_active: list[Patch] = []


@functools.wraps(ORIGINAL)
def _entry(*args: Any, **kwargs: Any) -> Any:
    patches = _active
    if not patches:  # kept by somebody who imported it in the meantime
        return ORIGINAL(*args, **kwargs)
    return patches[-1].attention.attend(*args, **kwargs)


class Patch:
    """A patch of the process, from `patch`; leaving it as a context manager takes it back."""

    def __init__(self, attention: Attention) -> None:
        self.attention = attention

    def status(self) -> dict[str, Any]:
        """As Attention.status, and `active`: is it this patch that calls go through?"""
        with _lock:
            active = bool(_active) and _active[-1] is self
        return {"active": active} | self.attention.status()

    def unpatch(self) -> None:
        """Takes this patch back; one that it covered is in force again."""
        with _lock:
            if self in _active:
                _active.remove(self)
                if not _active:
                    _replace(_entry, ORIGINAL)

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.unpatch()


def patch(engine: Any = None, **options: Any) -> Patch:
    """From now on, in every thread, scaled_dot_product_attention goes through Switchyard.

    Replaces the function in torch.nn.functional and in every loaded module that imported it by name.
    References held elsewhere (in closures, as attributes of objects) are not found: `Attention`, the
    context manager for one thread, sees those too.

    Args:
        engine, **options: as for Attention.

    Returns:
        A Patch, with `status()` and `unpatch()`; also a context manager. Patches nest: the latest is
        in force.
    """
    new = Patch(Attention(engine, **options))
    with _lock:
        _active.append(new)
        if len(_active) == 1:
            _replace(ORIGINAL, _entry)
    return new


def unpatch() -> None:
    """Takes the latest patch back. With the last one torch's own function stands everywhere again.
    Without a patch it does nothing."""
    with _lock:
        if _active:
            _active[-1].unpatch()


def status() -> dict[str, Any]:
    """Of the patch in force, as Patch.status; without one {"active": False, ...} and no calls."""
    with _lock:
        if _active:
            return _active[-1].status()
    return {
        "active": False,
        "calls": 0,
        "optimized": 0,
        "optimization_rate": 0.0,
        "patterns": {},
        "reasons": {},
    }


def _replace(old: Any, new: Any) -> None:
    """In torch.nn.functional and in all loaded modules."""
    for module in [torch.nn.functional, *list(sys.modules.values())]:
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict) or names.get("__name__") in _OWN:
            continue
        for name in [n for n, value in list(names.items()) if value is old]:
            setattr(module, name, new)


# Where torch's own function must stay known, and where it comes from.
_OWN = {__name__, Attention.__module__, "torch._C._nn"}
