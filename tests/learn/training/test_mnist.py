"""The shipped recipe on MNIST, where the data set is at hand: 8-bit, bit-true, three seeds."""

import os
from pathlib import Path
from statistics import fmean

import pytest

from fahw.study.compare import compare

FOLDER = Path(os.environ.get("FAHW_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.mark.slow
@pytest.mark.skipif(not list(FOLDER.glob("**/train-images*")), reason="MNIST is not at hand")
def test_every_rule_learns_mnist_in_three_epochs(tmp_path):
    """Test errors: bp at most 2.5 %, each sign rule within 1.2 points, fa and dfa at most 6 %; no seed collapses."""
    run = compare("edge_dual", "mlp_mnist", out=tmp_path, data="mnist", epochs=3, seeds=3, data_dir=FOLDER)
    errors = {line.rule: [100 - result.test_accuracy_pct for result in line.results] for line in run.lines}
    means = {rule: fmean(values) for rule, values in errors.items()}
    assert means["bp"] <= 2.5
    assert all(means[rule] <= means["bp"] + 1.2 for rule in ("usf", "brsf", "frsf"))
    assert all(means[rule] <= 6 for rule in ("fa", "dfa"))
    assert all(max(values) <= means[rule] + 1 for rule, values in errors.items())
