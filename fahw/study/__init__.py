"""Joining what a rule costs with what it learns: trainings that are never lost, comparisons, sweeps, verdicts."""

from fahw.study.storage.frame import frame

__all__ = ["frame"]
