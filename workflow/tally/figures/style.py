"""One look for every figure: a colour and a marker per method, and the matplotlib settings they are drawn with."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")

INK, MUTED, FAINT = "#222222", "#6B6B6B", "#D9D9D9"

# Okabe and Ito's palette, told apart with every common colour blindness; the markers serve print in grey.
COLORS = {
    "fine-tuned": "#000000",
    "zero-shot": "#8C8C8C",
    "weight-average": "#B8A36A",
    "task-arithmetic": "#009E73",
    "ties": "#B0569B",
    "random-consensus": "#6F6F6F",
    "consensus-task-arithmetic": "#D55E00",
    "consensus-ties": "#E69F00",
    "magnitude-pruning": "#7A8B99",
    "magnitude-masking": "#9DAAB5",
    "magnitude-masking-matched": "#C0C9D1",
    "tall-task-arithmetic": "#0072B2",
    "tall-ties": "#56B4E9",
}
MARKERS = {
    "fine-tuned": "_", "zero-shot": "h", "weight-average": "v", "task-arithmetic": "D", "ties": "s",
    "random-consensus": "x", "consensus-task-arithmetic": "^", "consensus-ties": "<", "magnitude-pruning": "d",
    "tall-task-arithmetic": "o", "tall-ties": "P",
}  # fmt: skip

RC = {
    "figure.dpi": 100,  # 8 inches wide: 800 pixels in a README, saved at twice that
    "savefig.dpi": 200,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
}


def styled(function: Callable[P, "Figure"]) -> Callable[P, "Figure"]:
    """Run a function that draws or saves under RC. matplotlib is imported here and not before: it takes 0.8 s."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        import matplotlib

        with matplotlib.rc_context(RC):
            return function(*args, **kwargs)

    return inside


def canvas(height: float, rows: int = 1, columns: int = 1, **subplots: object) -> tuple["Figure", object]:
    """An 8 inch wide figure and its axes. `Figure` without pyplot: no display, no global list of figures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **subplots)


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Positions near `values`, at least `gap` apart and in the same order: where to write labels that would overlap."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    placed = [values[i] for i in order]
    for _ in range(200):  # push neighbours apart symmetrically until no two touch
        moved = False
        for a in range(len(placed) - 1):
            overlap = gap - (placed[a + 1] - placed[a])
            if overlap > 1e-6 * gap:
                placed[a] -= overlap / 2
                placed[a + 1] += overlap / 2
                moved = True
        if not moved:
            break
    result = [0.0] * len(values)
    for position, i in zip(placed, order, strict=True):
        result[i] = position
    return result
