"""Learning rules as values: `RULES` has those that fahw ships, by name; a new one is a `Rule` of other choices."""

from fahw.rules.catalogue import RULES
from fahw.rules.rule import Rule

__all__ = ["RULES", "Rule"]
