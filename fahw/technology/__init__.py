"""Energies, powers and areas (pJ, mW, mm2) of the parts of a chip, each with its source and uncertainty."""
