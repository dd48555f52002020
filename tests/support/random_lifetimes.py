"""Random training steps as lifetimes: what each tensor saves where it stays, and where exact solvers put it."""

from dataclasses import dataclass

import numpy as np

from fahw.mapping.lifetimes import Choice


@dataclass(frozen=True)
class Tensor:
    """A tensor of a step: where it lies, when it is written and read, and pJ saved by each that finds it there."""

    memory: str
    bits: float
    written: int
    reads: tuple[tuple[int, float], ...]
    write_gain: float
    ahead: int = 0
    lasting: bool = False


@dataclass(frozen=True)
class Step:
    """A step: its tensors, its number of moments, how many are in flight, and room by memory and moment."""

    tensors: tuple[Tensor, ...]
    moments: int
    in_flight: int
    capacity: dict[str, tuple[float, ...]]

    def held_by(self, tensor, first, last):
        """The moments from first to last, with copies: for a while the next step in flight has one, too."""
        both = tensor.written + tensor.ahead if self.in_flight > 1 else 0
        return tuple((moment, 1 + (moment < both)) for moment in range(first, last + 1))

    def choices_of(self, number, later=False):
        """The choices of one tensor: until each of its reads, `later` from each read to each later one, too; over the
        whole step where it lasts."""
        tensor = self.tensors[number]
        if tensor.lasting:
            gain = tensor.write_gain + sum(gain for _, gain in tensor.reads)
            return [Choice(number, tensor.memory, tensor.bits, gain, self.held_by(tensor, 0, self.moments - 1))]
        found, gain = [], 0.0
        for place, (moment, more) in enumerate(tensor.reads, 1):
            gain += more
            whole = gain + (tensor.write_gain if place == len(tensor.reads) else 0.0)
            held = self.held_by(tensor, tensor.written, moment)
            found.append(Choice(number, tensor.memory, tensor.bits, whole, held))
        return found + (self.choices_between(number) if later else [])

    def choices_between(self, number):
        """The choices to keep a tensor from one of its reads until a later one."""
        tensor, found = self.tensors[number], []
        for place, (first, _) in enumerate(tensor.reads):
            gain = 0.0
            for last, more in tensor.reads[place + 1 :]:
                gain += more
                held = self.held_by(tensor, first, last)
                found.append(Choice(number, tensor.memory, tensor.bits, gain, held))
        return found

    def choices(self, later=False):
        """The choices of all tensors."""
        return [choice for number in range(len(self.tensors)) for choice in self.choices_of(number, later)]


def random_step(rng, layers=None, in_flight=None):
    """A step like those of training: activations, masks, errors, gradients, lasting weights; sizes over decades."""
    layers = int(rng.integers(3, 41)) if layers is None else layers
    in_flight = int(rng.integers(1, 3)) if in_flight is None else in_flight
    moments = 2 + layers + 3 * layers
    names = ["data", "sums", "weights"][: int(rng.integers(1, 4))]
    homes = {
        kind: names[int(rng.integers(len(names)))] for kind in ("activation", "mask", "error", "gradient", "weight")
    }
    forward = range(1, layers + 1)
    error = {layer: 2 + layers + 3 * (layers - layer) for layer in forward}
    sizes = 10 ** (rng.uniform(3, 5) + rng.uniform(0, 2, (5, layers + 1)))
    if rng.random() < 0.5:  # stages of equal layers, as in most networks
        sizes = sizes[:, np.arange(layers + 1) // int(rng.integers(2, 8)) * 2 % (layers + 1)]
    sizes = np.round(sizes)
    tensors = []

    def factor():
        return float(rng.choice([1.0, 1.0, 1.0, rng.integers(1, 9), rng.uniform(0, 4), 0.0]))

    def add(kind, bits, written, reads, ahead=0, lasting=False):
        reads = sorted((moment, factor() * bits * 10) for moment in reads)
        tensors.append(Tensor(homes[kind], float(bits), written, tuple(reads), factor() * bits * 11, ahead, lasting))

    for layer in forward:
        shortcut = [layer + 2] if layer + 2 <= layers and rng.random() < 0.3 else []
        add("activation", sizes[0, layer - 1], layer - 1, [layer, *shortcut, error[layer] + 1], ahead=layers // 2)
        if rng.random() < 0.6:
            add("mask", max(1, sizes[0, layer] // 8), layer, [error[layer]])
        below = [error[layer] + 1, *([error[layer - 1]] if layer > 1 else [])]
        add("error", sizes[0, layer], error[layer + 1] if layer < layers else layers + 1, [error[layer], below[0]])
        add("gradient", sizes[3, layer], error[layer] + 1, [error[layer] + 2])
        add("weight", sizes[4, layer], 0, [layer, error[layer]], lasting=True)
    return Step(tuple(tensors), moments, in_flight, random_capacity(rng, tensors, names, moments))


def random_capacity(rng, tensors, names, moments):
    """Room from nothing to more than everything, less what tiles take at some moments."""
    capacity = {}
    for name in names:
        everything = sum(tensor.bits for tensor in tensors if tensor.memory == name)
        room = everything * float(rng.choice([0.0, 1.2, *(10 ** rng.uniform(-2.5, 0, 6))]))
        tiles = rng.uniform(0, 0.5, moments) if rng.random() < 0.5 else np.zeros(moments)
        capacity[name] = tuple(np.floor(room * (1 - tiles)).tolist())
    return capacity
