"""The names of the devices that train, checked without loading torch."""

from __future__ import annotations

import re

from fahw.errors import ConfigError, Problem, check_kind, suggestion

DEVICES = ("cpu", "cuda")
_KNOWN = re.compile(r"cpu|cuda(:\d{1,3})?")


def check_device(name: object) -> None:
    """Raise ConfigError unless `name` is cpu, cuda or cuda:N; whether the machine has it is not checked."""
    check_kind("device", name, str, "cpu, cuda or cuda:N, as text")
    if not _KNOWN.fullmatch(str(name)):
        advice = " (did you mean 'cuda'?)" if str(name).lower() in ("gpu", "nvidia") else suggestion(str(name), DEVICES)
        message = f"no device {name!r}{advice}; known: cpu, cuda, and cuda:N for the one numbered N, from 0"
        raise ConfigError(Problem("device", message))
