"""What small networks train to, as digests: the same on every processor, whatever its instructions.

    python -m tests.support.bits

prints them, so that a test can compare processes whose libraries are kept from some instructions.
"""

import hashlib
import sys

import torch

from fahw.learn.kernels.matmul import is_exact
from fahw.learn.step import step
from fahw.rules.catalogue import COMPARED, RULES
from tests.support.models import batch_of, convolutional, integer_model, mlp, states


def trained_bits():
    """A line that says whether byte products are exact here, and one per network and rule."""
    lines = [str(is_exact("int8", 70, 300, 16, False, False))]
    for network in (mlp(300, 70, 40, 10), convolutional()):
        for rule in sorted(COMPARED):
            model = integer_model(network, RULES[rule], batch=16)[0]
            for number in range(3):
                pixels, labels = batch_of(network, 16, number)
                step(model, model.arithmetic.encode(pixels, 255), labels, 0.5, number)
            digest = hashlib.sha256()
            for tensor in states(model).values():
                digest.update(tensor.contiguous().numpy().tobytes())
            lines.append(f"{network.layers[0].kind} {rule} {digest.hexdigest()}")
    return lines


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write("\n".join(trained_bits()) + "\n")
