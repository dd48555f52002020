"""What all tests share: one torch thread, and examples that do not depend on the machine's speed."""

from __future__ import annotations

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("fahw", deadline=None, derandomize=True)
settings.load_profile("fahw")
