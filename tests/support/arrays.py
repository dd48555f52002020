"""Products laid out on arrays, by the name of the dataflow."""

from fahw.hardware.arrays.catalogue import DATAFLOWS


def mapping_of(m, n, k, rows, cols, dataflow, trimmed=False, double_buffered=False):
    """An (m x k) by (k x n) product in folds of a rows x cols array."""
    return DATAFLOWS[dataflow](m, n, k, rows, cols, trimmed, double_buffered)
