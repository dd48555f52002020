"""The plots of a comparison, each a function from the run to SVG text; None where the run has nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fahw.report.figures import figure as fig
from fahw.report.figures.floorplan import floorplan
from fahw.report.figures.learning import angles, gradient_angles, learning_curves
from fahw.report.figures.roofline import roofline
from fahw.report.figures.timeline import timeline
from fahw.report.run_folder import Entry, Line, Run, is_backpropagation, is_direct
from fahw.units import J_PER_PJ, Scale, scale_for

PHASES = ("forward", "recompute", "error", "gradient", "update", "transport", "static")


@dataclass(frozen=True)
class Plot:
    """A drawn plot: file name without ending, title, what to see in it, and the SVG."""

    name: str
    title: str
    caption: str
    svg: str

    @property
    def inline(self) -> str:
        """The SVG for a place inside the page."""
        return fig.inline_svg(self.svg, self.name, self.title)


Draw = Callable[[Run], Figure | None]


def draw_all(run: Run) -> list[Plot]:
    """Every plot that the run has data for, in the order of the page."""
    plots = []
    with matplotlib.rc_context(fig.styled()):
        for name, title, caption, draw in _PLOTS:
            figure = draw(run)
            if figure is not None:
                plots.append(Plot(name, title, caption, fig.to_svg(figure)))
    return plots


def phase_of(entry: Entry) -> str:
    """The phase of a ledger row; power times time belongs to none and is called static."""
    return entry.phase or "static"


def energy_by_phase(run: Run) -> Figure | None:
    """The figure of energy per sample, stacked by phase."""
    used = [phase for phase in PHASES if any(phase_of(row) == phase for line in run.hosted for row in line.ledger)]
    parts = [(phase, fig.PHASE_COLOURS[phase], "") for phase in used]
    return _energy_bars(run, parts, phase_of)


def energy_by_component(run: Run) -> Figure | None:
    """The figure of energy per sample, stacked by component, the largest first."""
    names = sorted({_component(row) for line in run.hosted for row in line.ledger})
    totals = {name: max(_energy_pj(line, name, _component) for line in run.hosted) for name in names}
    names.sort(key=lambda name: -totals[name])
    hatches = ("", "////", "....")
    count = len(fig.CYCLE)
    parts = [(name, fig.CYCLE[number % count], hatches[number // count % 3]) for number, name in enumerate(names)]
    return _energy_bars(run, parts, _component)


def _component(entry: Entry) -> str:
    """The component without its core: those of a mesh are added up."""
    return entry.component.rpartition(":")[2]


def _energy_pj(line: Line, key: str, key_of: Callable[[Entry], str]) -> float:
    return fsum(row.energy_pj for row in line.ledger if key_of(row) == key)


def _sample_share(line: Line) -> float:
    """The share of one sample in the energy of a step."""
    step = line.numbers["energy_pj_per_step"]
    return (line.numbers["energy_pj_per_sample"] or 0.0) / step if step else 0.0


def _energy_bars(run: Run, parts: Sequence[tuple[str, str, str]], key_of: Callable[[Entry], str]) -> Figure | None:
    if not run.hosted:
        return None
    scale = scale_for([(line.numbers["energy_pj_per_sample"] or 0.0) * J_PER_PJ for line in run.hosted], "J")
    figure, (axes,) = fig.new_figure(1.3 + 0.3 * len(run.hosted) + 0.18 * (len(parts) // 6))
    factors = [_sample_share(line) * J_PER_PJ * scale.factor for line in run.hosted]

    def energies(key: str) -> list[float]:
        return [_energy_pj(line, key, key_of) * factor for line, factor in zip(run.hosted, factors, strict=True)]

    bars = [(key, energies(key), colour, hatch) for key, colour, hatch in parts]
    ends = fig.stacked_bars(axes, [line.label for line in run.hosted], bars)
    for place, end in enumerate(ends):
        axes.annotate(f"{end:.{scale.decimals}f}", (end, place), (4, 0), textcoords="offset points", va="center")
    axes.set_xlim(0, max(ends) * 1.08 or 1)
    axes.set_xlabel(f"energy per training sample [{scale.unit}]")
    fig.legend_below(figure, axes)
    return figure


def accuracy_against_energy(run: Run) -> Figure | None:
    """The figure of test accuracy, mean and standard deviation over the seeds, against energy per sample."""
    lines = [line for line in run.hosted if line.numbers["accuracy_pct_mean"] is not None]
    if not lines:
        return None
    rules = list(dict.fromkeys(line.rule for line in lines))
    forms = list(dict.fromkeys(line.transport for line in lines))
    scale = scale_for([(line.numbers["energy_pj_per_sample"] or 0.0) * J_PER_PJ for line in lines], "J")
    figure, (axes,) = fig.new_figure(4.2)
    for line in lines:
        _draw_point(axes, line, scale, fig.rule_colour(line.rule, rules), fig.marker(forms.index(line.transport)))
    axes.set_xlabel(f"energy per training sample [{scale.unit}]")
    axes.set_ylabel("test accuracy [%]")
    axes.margins(0.08, 0.12)
    axes.grid(True)
    axes.set_axisbelow(True)
    figure.legend(loc="outside right upper", frameon=False, title="rule and transport", alignment="left")
    return figure


def _draw_point(axes: Axes, line: Line, scale: Scale, colour: str, marker: str) -> None:
    energy = (line.numbers["energy_pj_per_sample"] or 0.0) * J_PER_PJ * scale.factor
    accuracy, spread = line.numbers["accuracy_pct_mean"] or 0.0, line.numbers["accuracy_pct_std"] or 0.0
    axes.errorbar(
        [energy], [accuracy], yerr=[spread], color=colour, marker=marker, markersize=7, capsize=3, linestyle="none",
        markeredgecolor="white", markeredgewidth=0.6, elinewidth=1.0, label=line.label,
    )  # fmt: skip


def timeline_lines(run: Run) -> list[Line]:
    """The steps to set side by side: the best backpropagation, the best one that moves its weights, and a direct
    rule or else the one with the least energy."""
    ordered = sorted(run.hosted, key=lambda line: line.numbers["energy_pj_per_step"] or 0.0)
    moving = [line for line in ordered if is_backpropagation(line.rule) and line.numbers["transported_bits_per_step"]]
    others = [line for line in ordered if not is_backpropagation(line.rule)]
    rivals = sorted(others, key=lambda line: not is_direct(line.rule))
    chosen = [*([run.baseline] if run.baseline else []), *moving[:1], *rivals[:1]]
    return [line for line in {line.label: line for line in chosen}.values() if line.details.get("spans")]


def _compared_lines(run: Run) -> list[Line]:
    """The best backpropagation, and the rule beside it in the timeline."""
    rivals = [line for line in timeline_lines(run) if not is_backpropagation(line.rule)]
    return [*([run.baseline] if run.baseline else []), *rivals[:1]]


def _rival_roofline(run: Run) -> Figure | None:
    rivals = [line for line in _compared_lines(run) if line is not run.baseline]
    return roofline(rivals[0]) if rivals else None


def draw_line(line: Line) -> list[Plot]:
    """The plots of one priced step: timeline, energy map, roofline."""
    figures: tuple[tuple[str, Callable[[], Figure | None]], ...] = (
        ("timeline", lambda: timeline([line])),
        ("energy_map", lambda: floorplan([line])),
        ("roofline", lambda: roofline(line)),
    )
    texts = {name: (title, caption) for name, title, caption, _ in _PLOTS}
    with matplotlib.rc_context(fig.styled()):
        return [
            Plot(name, *texts[name], fig.to_svg(figure)) for name, draw in figures if (figure := draw()) is not None
        ]


_ROOFLINE = (
    "A point is a phase of a layer: its multiply-accumulates per bit through the memory's port, and per cycle from its "
    "start to its end; the larger, the more of the time it takes. It cannot lie above its port's line or the array's. "
    "Far below both, it waits for something else. Names where the pointer rests; numbers in roofline.csv."
)
_PLOTS: tuple[tuple[str, str, str, Draw], ...] = (
    (
        "energy_by_phase",
        "Energy per training sample, by phase",
        "Static energy (leakage, DRAM standby) is power times the steady-state time of a step; it belongs to no phase.",
        energy_by_phase,
    ),
    (
        "energy_by_component",
        "Energy per training sample, by component",
        "The same energy, by the part of the chip that spends it, equal parts of all cores together; static energy "
        "of a part is within its bar.",
        energy_by_component,
    ),
    (
        "accuracy_against_energy",
        "Accuracy against energy",
        "Test accuracy at the epoch that is best on the validation set; the bars are one standard deviation over the "
        "seeds. Upper left is better.",
        accuracy_against_energy,
    ),
    (
        "learning_curves",
        "Learning curves",
        "Validation accuracy: mean over the seeds, band of one standard deviation. Energy to the target counts the "
        "steps to the end of the first epoch that lies on or above the dotted line.",
        learning_curves,
    ),
    (
        "angles",
        "Angle between feedback and forward weights",
        "Mean over the seeds. 90 degrees: feedback says nothing about the weights; 0: backpropagation's own direction. "
        "Rules without a matrix to compare have no curve.",
        angles,
    ),
    (
        "gradient_angles",
        "Angle between the rule's weight gradient and backpropagation's",
        "On a fixed batch, at the end of each epoch; backpropagation's is computed exactly on the same weights, so "
        "that its own curve is what the number formats add. Below 90 degrees an update still goes downhill.",
        gradient_angles,
    ),
    (
        "timeline",
        "One training step on the parts of the chip",
        "An isolated step, first start to last end; in steady state the next step overlaps with it (interval). A bar "
        "includes waiting for data; it goes on as a thin line until the results are stored. Every other micro-batch is "
        "lighter. On a mesh the lanes of a core are its arrays, their vector lanes and its link.",
        lambda run: timeline(timeline_lines(run)),
    ),
    (
        "energy_map",
        "Energy on the area of the chip",
        "Areas are in proportion to mm², places within a core are not meant; the darker, the more energy per step "
        "(leakage included), on one scale for all maps that goes with the square root and ends at the largest of the "
        "components that have an area. Names where the pointer rests.",
        lambda run: floorplan(_compared_lines(run)),
    ),
    (
        "roofline",
        "Roofline of each memory: the best backpropagation",
        _ROOFLINE,
        lambda run: roofline(run.baseline) if run.baseline else None,
    ),
    (
        "roofline_rival",
        "Roofline of each memory: the rule beside it",
        _ROOFLINE,
        _rival_roofline,
    ),
)
