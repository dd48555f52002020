"""pJ, mW and mm2 of the parts of a chip, each with its source and uncertainty."""
