"""One at a time: a call that changes a network refuses another meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from threading import get_ident
from typing import Any, Concatenate, ParamSpec, TypeVar

BUSY = "the network is in another call that changes it: one at a time, or give each thread a net.copy()"

_Owner = TypeVar("_Owner")
_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")

calls: dict[Any, list[int]] = {}  # by what a call changes: a list of its thread's number
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=calls.clear)  # the threads of those calls did not come along


def exclusive(
    function: Callable[Concatenate[_Owner, _Arguments], _Result],
) -> Callable[Concatenate[_Owner, _Arguments], _Result]:
    """A function that changes its first argument, made to refuse it while another such is at work on it."""

    @wraps(function)
    def alone(owner: _Owner, /, *arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        call = [get_ident()]
        try:
            if calls.setdefault(owner, call) is not call:
                raise RuntimeError(BUSY)
            return function(owner, *arguments, **options)
        finally:  # nothing is called here: Ctrl-C strikes after a call, and would leave the network locked
            if owner in calls and calls[owner] is call:
                del calls[owner]

    return alone
