"""A fuzzer of every kind of file that fahw opens: mutants of good files in, a value or a ConfigError out.

A mutant is known by its target and its number, from which its random choices follow: `python -m tests.support.fuzzing
--target chip --first 4711 --count 1` makes it again.
"""
