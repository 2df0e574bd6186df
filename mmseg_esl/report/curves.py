"""Small plots as inline SVG, which takes the colours of its text and frame from the page."""
from __future__ import annotations

import io
import re
import zlib

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS = ('#3b82c4', '#e07b39', '#2a9d6e', '#a65fc0')  # distinct on white and on black
INK = '#010203'  # becomes the page's
MOST_POINTS = 1000
MOST_NAMES = 25  # beyond, they could not be read
STYLE = {
    'text.parse_math': False,  # names of classes are text
    'svg.fonttype': 'none', 'svg.hashsalt': 'report', 'font.size': 8,
    'axes.spines.top': False, 'axes.spines.right': False, 'axes.grid': True, 'grid.alpha': 0.15,
    'axes.edgecolor': INK, 'grid.color': INK, 'text.color': INK, 'axes.labelcolor': INK,
    'xtick.color': INK, 'ytick.color': INK, 'lines.linewidth': 1.2, 'axes.linewidth': 0.6,
    'xtick.major.width': 0.6, 'ytick.major.width': 0.6, 'xtick.major.size': 2.5,
    'ytick.major.size': 2.5, 'axes.formatter.useoffset': False}
SIZE = (3.3, 1.9)  # inches, of a panel


def lines(curves: dict, until: int, marks: dict | None = None, points: bool = False) -> str:
    """Lines over iterations.

    Args:
        curves: ``{name: (iterations, values)}``; values that are no numbers leave a gap.
        until: where the axis of iterations ends, the same for all plots of a page.
        marks: ``{name: iteration}``, drawn as a dot on that line.
        points: show each value (a few validations) instead of means of neighbours.

    Returns:
        An ``<svg>`` element without a fixed size.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(until)
        for (name, (steps, values)), colour in zip(curves.items(), COLOURS):
            steps, values = np.asarray(steps, float), np.asarray(values, float)
            if not points:
                steps, values = thin(steps, values)
            alone = points or len(steps) == 1
            axes.plot(steps, values, color=colour, marker='.' if alone else None, markersize=3)
            if name in (marks or {}):
                where = np.flatnonzero(steps == marks[name])
                axes.plot(steps[where], values[where], 'o', color=colour, markersize=5)
        return _svg(figure)


def stacked(steps, shares: dict, until: int) -> str:
    """Shares of a whole over iterations, ``{name: values in [0, 1]}``, one on the other."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(until)
        thinned = [thin(np.asarray(steps, float), np.asarray(values, float))
                   for values in shares.values()]
        colours = COLOURS[:len(thinned)]
        if len(steps) == 1:  # an area needs two points
            bottom = np.cumsum([0, *(values[0] for _, values in thinned)])
            for (at, values), low, colour in zip(thinned, bottom, colours):
                axes.bar(at, values, bottom=low, color=colour, width=until / 20)
        else:
            axes.stackplot(thinned[0][0], [values for _, values in thinned], colors=colours,
                           linewidth=0)
        axes.set_ylim(0, 1)
        return _svg(figure)


def heat(steps, names, values, until: int) -> str:
    """A row of shades for each name, over iterations; ``values`` ``[names][iterations]``."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(until)
        thinned = [thin(np.asarray(steps, float), np.asarray(line, float)) for line in values]
        ends = thinned[0][0]  # a value is the mean since the one before
        ends = np.concatenate([[max(0, 2 * ends[0] - ends[min(1, len(ends) - 1)])], ends])
        ends[0] -= ends[0] == ends[1]
        axes.pcolormesh(ends, np.arange(len(names) + 1), [line for _, line in thinned],
                        cmap='cividis', rasterized=True)
        axes.grid(False)
        axes.invert_yaxis()
        shown = names if len(names) <= MOST_NAMES else ()
        axes.set_yticks(np.arange(len(shown)) + 0.5, [_cut(name) for name in shown],
                        fontsize=min(7, 90 / max(1, len(shown))))
        return _svg(figure)


def _cut(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + '…'


def thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of as many neighbours as it takes to leave at most MOST_POINTS points."""
    size = -(-len(steps) // MOST_POINTS)
    if size < 2:
        return steps, values
    starts = np.arange(0, len(steps), size)
    counts = np.diff([*starts, len(steps)])
    return np.add.reduceat(steps, starts) / counts, np.add.reduceat(values, starts) / counts


def _axes(until: int):
    figure = Figure(figsize=SIZE, layout='constrained')
    axes = figure.add_subplot()
    axes.set_xlim(0, 1.02 * max(until, 1))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    return figure, axes


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format='svg', transparent=True)
    text = out.getvalue()
    text = text[text.index('<svg'):].replace(INK, 'currentColor')
    text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
    text = re.sub(r'\s(width|height)="[\d.]+pt"', '', text, count=2)
    return _own_ids(text).strip()


def _own_ids(text: str) -> str:
    """Ids of a page are unique: keep those that something refers to, and make them this plot's."""
    used = set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', text))
    text = re.sub(r' id="([\w.-]+)"', lambda m: m[0] if m[1] in used else '', text)
    own = f'{zlib.crc32(text.encode()):08x}'
    return re.sub(r'( id="|url\(#|href="#)', lambda m: f'{m[1]}s{own}-', text)
