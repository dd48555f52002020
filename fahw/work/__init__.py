"""What one training step must do on a chip: the one place that counts.

`counts.record` has the values, `counts.accesses` turns values into words (and spills what does not fit), `counts.gemm`
counts a matrix product on an array, `training_step` puts a step together. Cycles, energy, traces and reports derive
from these records.
"""
