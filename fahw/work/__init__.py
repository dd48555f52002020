"""What one training step must do on a chip: the one place that counts.

`records` are the values, `memory` turns values into words (and spills what does not fit), `product` counts a matrix
product on an array, `step` puts a training step together. Cycles, energy, traces and reports derive from the records.
"""
