"""Claims about memories that are read in two directions, and about layers that work in parallel."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from fahw.chip.cost import Cost, simulate
from fahw.datasets.dataset import load_dataset
from fahw.formats.precision import Precision
from fahw.hardware.load import load_chip
from fahw.layers.activation import ReluSpec
from fahw.layers.catalogue import make_layer
from fahw.layers.weighted import LinearSpec
from fahw.learn.state.delays import Delays
from fahw.learn.training.setup import TrainingSetup
from fahw.learn.training.train import train
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from tests.validation.claim import Claim, Override, at, cost, within

WIDTH, BATCH = 512, 200
_DEEP, _SHALLOW = 16, 4


def claims() -> Iterator[Claim]:
    """All of them."""
    yield from _transposable()
    yield from _depth()


# Koo


def _transposable() -> Iterator[Claim]:
    by_form = {form: cost("koo_transposable", "crossbar_mlp", "bp", 1, form) for form in ("transposable", "column")}
    both, rows = by_form["transposable"], by_form["column"]
    yield Claim(
        ("C029",), "Koo, JSTS 2020", "area of the transposable over the ordinary memory", "%", at(26.0), at(26.0),
        "given to the preset", True, "`koo_transposable`; the overhead is a published input, not a result",
        f"The whole chip around two such memories becomes {100 * (both.area_mm2 / rows.area_mm2 - 1):.0f} % larger.",
    )  # fmt: skip
    step, path = rows.cycles / both.cycles, error_path(rows) / error_path(both)
    yield Claim(
        ("C031",), "Koo, JSTS 2020", "speed of a learning step over the ordinary memory read by columns", "x", at(19.3),
        (step, path), "within 30 %", within(step, 19.3, 1.3),
        "`koo_transposable`, a step of BP through two crossbars, batch 1: `transposable` against `column`; the range "
        "ends at the error path alone",
        "The published figure is contrastive divergence on a Boltzmann machine, which passes the memory in both "
        "directions and updates it, as a step of BP does; how long its update takes was not readable. Here the update "
        "is a large part of a step, and its lanes are assumed; so that the figures agree means little.",
        step,
    )  # fmt: skip


def error_path(found: Cost) -> int:
    """Cycles from the loss to the last error."""
    ends = [span.end for span in found.timing.spans if span.phase == "error"]
    return max(ends) - loss_end(found)


def loss_end(found: Cost) -> int:
    """When the output error is there."""
    return max(span.end for span in found.timing.spans if span.layer == "loss")


# Wolters


def deep(layers: int) -> Network:
    """`layers` hidden layers of one width."""
    found, shape = [], (WIDTH,)
    for number in range(1, layers + 1):
        found.append(make_layer(LinearSpec(kind="linear", out=WIDTH), f"fc{number}", shape))
        found.append(make_layer(ReluSpec(kind="relu"), f"relu{number}", shape))
    found.append(make_layer(LinearSpec(kind="linear", out=10), "out", shape))
    return Network(f"deep{layers}", shape, tuple(found))


@cache
def step(layers: int, rule: str, overrides: tuple[Override, ...] = ()) -> Cost:
    """A step on the layer-parallel chip."""
    return simulate(load_chip("wolters_crossbar", dict(overrides)), deep(layers), rule, BATCH)


def backward(found: Cost) -> int:
    """Cycles from the loss to the end of the step."""
    return found.cycles - loss_end(found)


def _depth() -> Iterator[Claim]:
    def growth(part) -> float:  # type: ignore[no-untyped-def]
        deeper, shallow = (part(step(n, "bp")) / part(step(n, "dfa")) for n in (_DEEP, _SHALLOW))
        return float(deeper / shallow)

    whole, path = growth(backward), growth(error_path)
    yield Claim(
        ("C038",), "Wolters, MWSCAS 2023", f"backward part, BP over DFA: its growth from {_SHALLOW} to {_DEEP} layers",
        "x", at(_DEEP / _SHALLOW), (whole, path), "within 30 %", within(whole, _DEEP / _SHALLOW, 1.3),
        f"`wolters_crossbar`, perceptrons of equal layers of {WIDTH}, batch {BATCH}; the range ends at the error path "
        "alone",
        "DFA's backward part does not depend on depth, BP's is proportional to it but for the last gradient and "
        "update, which both have.",
        whole,
    )  # fmt: skip
    yield _whole_step()
    bp, dfa, fa = (dynamic(cost("wolters_crossbar", "vgg8", rule, BATCH)) for rule in ("bp", "dfa", "fa"))
    yield Claim(
        ("C039",), "Wolters, MWSCAS 2023", "energy of DFA over BP", "x", at(1.0), (dfa / bp, fa / bp),
        "1 where the error path reads as many weights", abs(fa / bp - 1) < 0.01,
        "`wolters_crossbar`, VGG-8, batch 200, without static energy; the range ends at FA, whose B is as large as W",
        "With analog cells the buffers take nearly all energy; here digital multipliers do, and DFA's error path from "
        "ten outputs has a fraction of BP's. What it reads decides: with as many feedback weights the energy is BP's.",
        dfa / bp,
    )  # fmt: skip


def dynamic(found: Cost) -> float:
    """Energy without its static part, pJ."""
    return found.energy_pj - found.static_pj


def accuracy(delay: int) -> float:
    """Test accuracy of a short training whose updates come late, percent."""
    network = load_model("mlp_digits")
    recipe = network.recipe.model_copy(update={"epochs": 10})
    setup = TrainingSetup(network, recipe, RULES["dfa"], Precision(), delays=Delays(update_delay=delay))
    result = train(setup, load_dataset("digits", None, None))
    return result.test_accuracy_pct


_LATE: tuple[Override, ...] = (("update_delay", "15"), ("steps_in_flight", "16"))
_MICRO: tuple[Override, ...] = (("micro_batch", "25"),)


def _whole_step() -> Claim:
    few, many = 4, 8

    def interval(layers: int, rule: str, overrides: tuple[Override, ...] = ()) -> float:
        return step(layers, rule, overrides).interval_cycles

    def gain(layers: int, overrides: tuple[Override, ...] = ()) -> float:
        """BP that waits over DFA."""
        return interval(layers, "bp") / interval(layers, "dfa", overrides)

    plain, late = gain(many) / gain(few), gain(many, _LATE) / gain(few, _LATE)
    micro = interval(many, "bp", _MICRO) / interval(many, "dfa", _MICRO)
    both = interval(many, "bp", _LATE) / interval(many, "dfa", _LATE)
    return Claim(
        ("C038",), "Wolters, MWSCAS 2023", f"whole step, BP over DFA: its growth from {few} to {many} layers", "x",
        at(many / few), (plain, late), "1/N with late updates, and BP's beside it", within(late, many / few, 1.3),
        f"the same; from steps that wait for the update before to DFA with updates {_LATE[0][1]} steps late",
        f"Forward takes its time layer by layer under either rule: at {many} layers BP takes {gain(many):.2f} times as "
        f"long on steps alone, {micro:.2f} in eight micro-batches. Only when updates may come late does a step start "
        f"before the last one ends: then DFA is {gain(many, _LATE):.1f} times as fast as BP that waits. But BP with "
        f"updates as late takes only {both:.2f} times as long as DFA: most of the gain is the pipeline's. And it is "
        f"paid for: `mlp_digits` under DFA in 8 bits, ten epochs of its recipe, learns {accuracy(0):.1f} % with "
        f"updates in time, {accuracy(1):.1f} % with updates one step late and {accuracy(15):.1f} % with fifteen.",
        plain,
    )  # fmt: skip
