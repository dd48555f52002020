"""What all plots share: colours that colour-blind readers can tell apart, a plain style, and SVG without dates or
random names, so that the same data give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fahw.errors import shortened
from fahw.units import fixed

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, BLACK, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#000000", "#999999"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY)
PHASE_COLOURS = {
    "forward": SKY, "recompute": BLUE, "error": RED, "gradient": GREEN, "update": ORANGE,
    "transport": PURPLE, "static": GREY,
}  # fmt: skip
_RULE_COLOURS = {"bp": BLACK, "fa": RED, "usf": BLUE, "brsf": SKY, "frsf": GREEN, "dfa": ORANGE}
Dashes = str | tuple[int, tuple[int, ...]]
"""A line style of matplotlib: a name, or an offset with the lengths of dashes and gaps."""
_DASHES: tuple[Dashes, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
_MARKERS = "osD^vPX*"
INK = "#222222"
WIDTH = 10.0
_TIP = "tip: "
_MOST_CHARACTERS, _MOST_OF_A_NAME = 200, 60
_STYLE = {
    "svg.hashsalt": "fahw", "svg.fonttype": "none", "text.parse_math": False, "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"], "font.size": 9.0, "axes.titlesize": 9.5, "axes.edgecolor": "#666666",
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "hatch.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "grid.color": "#dddddd", "grid.linewidth": 0.6,
}  # fmt: skip


def rule_colour(rule: str, rules: Sequence[str]) -> str:
    """The colour of a rule; the same on every page for the rules that fahw ships."""
    return _RULE_COLOURS.get(rule, CYCLE[rules.index(rule) % len(CYCLE)])


def dashes(index: int) -> Dashes:
    """Line style number `index`, so that curves differ by more than their colour."""
    return _DASHES[index % len(_DASHES)]


def marker(index: int) -> str:
    """Marker number `index`; behind the last they begin again."""
    return _MARKERS[index % len(_MARKERS)]


def styled() -> matplotlib.RcParams:
    """The style of all plots, for `matplotlib.rc_context`. What a `matplotlibrc` in some folder says, which could have
    LaTeX run, does not count."""
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")}
    return matplotlib.RcParams(defaults | _STYLE)


def new_figure(
    height: float, rows: int = 1, columns: int = 1, height_ratios: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of page width and its axes, row by row. Sizes in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, height_ratios=height_ratios)
    return figure, list(grid.flat)


def tip(artist: Artist, text: str) -> None:
    """Show `text` where the pointer rests on `artist`."""
    artist.set_gid(f"{_TIP}{shortened(text, _MOST_CHARACTERS)}")


def name_ticks(axis: Axis, places: Iterable[float], names: Iterable[str]) -> None:
    """Put names at an axis, long ones cut: a letter costs time to lay out whether or not there is room for it."""
    axis.set_ticks(list(places), [shortened(name, _MOST_OF_A_NAME) for name in names])


def to_svg(figure: Figure) -> str:
    """The figure as SVG text, drawn in the style that is in force. Long texts are cut."""
    names = {text for legend in figure.legends for text in legend.get_texts()}
    for artist in figure.findobj(Text):
        most = _MOST_OF_A_NAME if artist in names else _MOST_CHARACTERS
        if isinstance(artist, Text) and len(artist.get_text()) > most:
            artist.set_text(shortened(artist.get_text(), most))
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
    return re.sub(rf'<g id="{_TIP}([^"]*)">', r"<g><title>\1</title>", svg)


def inline_svg(svg: str, name: str, title: str) -> str:
    """The SVG for a place inside an HTML page: no prolog, names that are unique on the page, a title for screen
    readers."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\b(id|clip-path|xlink:href|href)="(url\(#|#)?([^"]+)"', rf'\1="\2{name}-\3"', body)
    body = re.sub(r"url\(#(?!" + re.escape(name) + r"-)", f"url(#{name}-", body)
    body = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", body).replace("xlink:href", "href")
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return body.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def stacked_bars(
    axes: Axes, names: Sequence[str], parts: Iterable[tuple[str, Sequence[float], str, str]]
) -> list[float]:
    """Draw horizontal stacked bars, the first on top. Returns their ends. `parts`: label, lengths, colour, hatch."""
    ends = [0.0] * len(names)
    places = range(len(names))
    for label, lengths, colour, hatch in parts:
        axes.barh(
            places,
            lengths,
            left=ends,
            height=0.72,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.5,
            label=label,
        )
        ends = [end + length for end, length in zip(ends, lengths, strict=True)]
    name_ticks(axes.yaxis, places, names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return ends


def legend_below(figure: Figure, axes: Axes, columns: int = 6) -> None:
    """Draw one legend under the whole figure."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def patch_legend(figure: Figure, colours: dict[str, str]) -> None:
    """Draw a legend of coloured areas under the whole figure."""
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)


def epoch_axis(axes: Axes) -> None:
    """Put whole epochs on the horizontal axis."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def grouped_ticks(axes: Axes) -> None:
    """Show the digits of the horizontal axis in groups of three."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: fixed(value, 0)))
