"""Random crops and mirrored images, exact on whole pixels and the same on any machine.

What happens to an image follows from the seed, the epoch and the image's place in the training set alone: not from the
batch that it is in, nor from where a training was interrupted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fahw.datasets.images import Pixels
from fahw.network.recipe import Augment
from fahw.prng import derive

_PLACE_BITS = 24


class Augmenter:
    """The random changes of one epoch's `count` training images; call it to apply them."""

    def __init__(self, augment: Augment, seed: int, epoch: int, count: int) -> None:
        # One raw 64-bit word per image: numpy promises the generator's words for good, not its derived draws.
        words = np.random.PCG64(derive(seed, "augment", epoch)).random_raw(count)
        places = np.uint64(2 * augment.crop_padding + 1)
        mask = np.uint64((1 << _PLACE_BITS) - 1)

        def place(shift: int) -> NDArray[np.int64]:
            fraction = (words >> np.uint64(shift)) & mask
            return ((fraction * places) >> np.uint64(_PLACE_BITS)).astype(np.int64)

        self.padding = augment.crop_padding
        self.top, self.left = place(16), place(40)
        """Row (`top`) and column (`left`) at which each image's crop starts in the padded image, in pixels: at
        `padding` it is the image as it was."""
        self.mirrored: NDArray[np.bool_] = (words & np.uint64(1)).astype(bool) & augment.horizontal_flip

    def __call__(self, images: Pixels, places: NDArray[np.int64]) -> Pixels:
        """The changed `images`, `(n, channels, height, width)`, which lie at `places` of the training set."""
        if self.padding:
            pad = (self.padding, self.padding)
            padded = np.pad(images, ((0, 0), (0, 0), pad, pad))
            windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[2:], axis=(2, 3))
            images = windows[np.arange(len(images)), :, self.top[places], self.left[places]]
        return np.where(self.mirrored[places, None, None, None], images[..., ::-1], images)
