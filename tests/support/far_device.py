"""A device that every machine has: tensors that say they lie elsewhere, and whose numbers lie in the host's memory.

What CUDA refuses is refused here too: operands that lie on two devices, numpy's view of a tensor, int64 products, 8-bit
products of most shapes; and like CUDA it divides by a number by multiplying with its reciprocal. Everything else is
computed as on the processor, so that what is exact there must come out with the same bits.

    with far() as device:
        x = torch.zeros(3, device=device)
"""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy", 0)
"""A kind of device that a plain build of PyTorch knows and has no code for."""
_CARRIES = {"aten._to_copy.default", "aten.copy_.default"}
"""What goes from one device to another."""
_PRODUCTS = ("aten.mm.", "aten.addmm.", "aten.bmm.", "aten.dot.")
_DIVISIONS = {"aten.div.Tensor": torch.ops.aten.mul.Tensor, "aten.div_.Tensor": torch.ops.aten.mul_.Tensor}
_TF32_BITS = 13
"""Bits that TF32 cuts off a float32."""


class FarTensor(torch.Tensor):
    """`near` holds the numbers."""

    @staticmethod
    def __new__(cls, near):
        far = torch.Tensor._make_wrapper_subclass(
            cls, near.size(), strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip
        far.near = near
        return far

    def __repr__(self):
        return f"FarTensor({self.near})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, False)


class _Far(TorchDispatchMode):
    def __init__(self, tf32):
        super().__init__()
        self._tf32 = tf32

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, self._tf32)


@contextmanager
def far(tf32=False):
    """The device, while the mode is on; `tf32`: float32 products lose bits of their factors."""
    with _Far(tf32):
        yield DEVICE


def near(x):
    """The host's copy of a tensor that may lie elsewhere."""
    return x.near if isinstance(x, FarTensor) else x


def _run(func, args, kwargs, tf32):
    flat, _ = tree_flatten((args, kwargs))
    distant = [x for x in flat if isinstance(x, FarTensor)]
    device = kwargs.get("device")
    goes_far = bool(distant) if device is None else device.type == DEVICE.type
    if device is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    name = str(func)
    if distant:
        _refuse(name, flat)
    if name == "aten.copy_.default":
        goes_far = isinstance(args[0], FarTensor)
    if distant:
        func, args = _as_cuda_would(func, args, tf32)
    result = func(*tree_map(near, args), **tree_map(near, kwargs))
    if torch.Tag.inplace_view in func.tags:
        raise NotImplementedError(f"{name} changes a shape in place")
    if not goes_far:
        return result
    known = {id(x.near): x for x in distant}  # what is changed in place stays the tensor that it is

    def there(x):
        return x if not isinstance(x, torch.Tensor) else known[id(x)] if id(x) in known else FarTensor(x)

    return tree_map(there, result)


def _refuse(name, flat):
    """Raise RuntimeError for what CUDA has no answer to."""
    own = [x for x in flat if isinstance(x, FarTensor)]
    others = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, FarTensor)]
    if name not in _CARRIES and any(x.dim() for x in others):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found lazy:0 and cpu")
    if name == "aten._int_mm.default":
        m, k, n = *own[0].shape, own[1].shape[1]
        if m <= 16 or k % 8 or n % 8:
            raise RuntimeError(f"_int_mm: no kernel for ({m}, {k}) x ({k}, {n})")
    if name.startswith(_PRODUCTS) and any(x.dtype == torch.int64 for x in own):
        raise RuntimeError(f"{name}: not implemented for 'Long'")


def _as_cuda_would(func, args, tf32):
    """The operation and operands of what CUDA computes in another way."""
    name = str(func)
    if name in _DIVISIONS and not isinstance(args[1], FarTensor) and args[0].is_floating_point():
        reciprocal = 1 / torch.tensor(float(args[1]), dtype=args[0].dtype)
        return _DIVISIONS[name], (args[0].near, reciprocal)
    if tf32 and name.startswith(_PRODUCTS) and args[0].dtype == torch.float32:
        return func, tuple(_cut_off(near(x)) for x in args)
    return func, args


def _cut_off(x):
    bits = x.contiguous().view(torch.int32)
    return bits.bitwise_right_shift(_TF32_BITS).bitwise_left_shift(_TF32_BITS).view(torch.float32)
