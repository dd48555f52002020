"""Copies of the user's torch modules, which fahw itself never changes."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from fahw.errors import ConfigError, Problem

M = TypeVar("M", bound=nn.Module)


def module_copy(module: M) -> M:
    """A copy that shares nothing with `module`. Raises ConfigError where PyTorch cannot copy what it holds."""
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        message = f"cannot be copied ({reason}); what a forward pass has stored in the module may hold its graph: "
        raise ConfigError(Problem("module", message + "detach it, or apply the rule before the first pass")) from error
