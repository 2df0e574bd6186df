"""What the pictures are made of: figures of 1000 pixels' width, maps, legends, marks, sheets."""
from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure  # no pyplot: no global state, nothing to be closed
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch

WIDTH, DPI = 10.0, 100  # inches, pixels an inch: points are legible as they are
SMALL, TITLE = 8.5, 10  # points
HEAD, FOOT, GAP = 0.32, 0.3, 0.12  # inches above, below and beside a panel
LETTER, LINE, HANDLE = 0.078, 0.2, 0.45  # inches, of SMALL: a legend's handle with its gaps
SHEET = 2400  # pixels that a contact sheet is wide at most
BAR, NAME = 0.19, 25  # inches from one bar of a chart to the next; most letters of its name


def grid(rows: int, cols: int, shape, *, foot: float = FOOT, least: float = 0.0, legend=(),
         handle: float = HANDLE):
    """A figure of ``rows`` x ``cols`` panels for maps of ``shape`` (H, W).

    Placed by hand: matplotlib's own layouts leave gaps around maps, or cut titles.

    Args:
        foot: inches below each row, for notes, legends and colour bars.
        least: inches that a panel is high at least.
        legend, handle: labels of the figure's legend, for which room is left below, and how wide
            its handles are.

    Returns:
        figure and ``(rows, cols)`` array of axes.
    """
    width = (WIDTH - (cols + 1) * GAP) / cols
    # very flat or tall images get panels that a title, or the screen, fits
    height = max(least, width * float(np.clip(shape[0] / shape[1], 0.25, 1.5)))
    below = GAP + LINE * -(-len(legend) // legend_columns(legend, handle)) if legend else 0.0
    total = rows * (HEAD + height + foot) + below
    figure = Figure(figsize=(WIDTH, total), dpi=DPI)
    axes = np.empty((rows, cols), object)
    for row, col in np.ndindex(rows, cols):
        left, top = GAP + col * (width + GAP), HEAD + row * (HEAD + height + foot)
        axes[row, col] = figure.add_axes(
            (left / WIDTH, 1 - (top + height) / total, width / WIDTH, height / total))
        axes[row, col].tick_params(labelsize=SMALL)
    return figure, axes


def show(axis, picture: np.ndarray, title: str, note: str = '', exact: bool = True, **options):
    """An image (H, W, 3) or a map (H, W) with a title above and a note below; no ticks.

    ``exact``: every pixel's own colour; otherwise large photographs are smoothed when shrunk.
    """
    drawn = axis.imshow(picture, interpolation='nearest' if exact else 'auto', **options)
    axis.set_title(shortened(title, axis), fontsize=TITLE)
    axis.set_xlabel(note, fontsize=SMALL, labelpad=3)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    return drawn


def shortened(title: str, axis) -> str:
    """The end of a title that is wider than its panel: of a path it says the most."""
    room = int(WIDTH * axis.get_position().width / (LETTER * TITLE / SMALL))
    return title if len(title) <= room else '…' + title[1 - room:]


def colour_bar(axis, drawn, label: str) -> None:
    """The colour bar of a map, below it; takes 0.55 inches."""
    height = axis.figure.get_figheight() * axis.get_position().height
    below = axis.inset_axes((0, -0.2 / height, 1, 0.12 / height))
    bar = axis.figure.colorbar(drawn, cax=below, orientation='horizontal')
    bar.set_label(label, fontsize=SMALL, labelpad=2)
    bar.ax.tick_params(labelsize=SMALL)


def bar_chart(axis, values, names, colours, *, most: int, title: str, note) -> None:
    """Horizontal bars, the first one on top, with names at the left and values at their ends.

    Args:
        values, names, colours: of the bars. most: bars that may be shown; fewer if they do not fit.
        note: the text below, given the number of bars that are shown.
    """
    box, figure = axis.get_position(), axis.figure
    shown = min(most, len(values), int(figure.get_figheight() * box.height / BAR))
    names = [name if len(name) <= NAME else name[:NAME - 1] + '…' for name in names[:shown]]
    room = (0.15 + LETTER * max(map(len, names))) / WIDTH
    axis.set_position((box.x0 + room, box.y0, box.width - room, box.height))
    middle = (box.width / 2 - room) / (box.width - room)  # of the panel, in the axis's coordinates
    axis.barh(range(shown), values[:shown], color=colours[:shown], edgecolor='0.4')
    axis.set_yticks(range(shown), names, fontsize=SMALL)
    axis.invert_yaxis()
    for row, value in enumerate(values[:shown]):
        axis.annotate(f'{value:.3f}', (max(value, 0), row), (4, 0), textcoords='offset points',
                      va='center', fontsize=SMALL,
                      bbox=dict(facecolor='white', edgecolor='none', alpha=0.8, pad=0.3))
    axis.set_xlim(min(0, *values[:shown]), 1.2)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axis.spines[['top', 'right']].set_visible(False)
    axis.set_title(title, fontsize=TITLE, x=middle)
    axis.set_xlabel(note(shown), fontsize=SMALL, x=middle)


def mark(axis, pixel) -> None:
    """Ring and cross at ``pixel`` (x, y), black on white: to be seen on any ground."""
    x, y = pixel
    for colour, width in (('white', 4), ('black', 1.6)):
        axis.plot([x], [y], marker='o', markersize=11, markerfacecolor='none',
                  markeredgecolor=colour, markeredgewidth=width, linestyle='none')
    axis.plot([x], [y], marker='+', markersize=5, color='black', linestyle='none')


def swatches(colours, labels) -> list[Patch]:
    """Handles of a legend, from colours in 0..255."""
    return [Patch(facecolor=np.asarray(c) / 255, edgecolor='0.4', label=label)
            for c, label in zip(colours, labels)]


def legend_below(axis, handles) -> None:
    """A legend of one line below an axis."""
    axis.legend(handles=handles, loc='upper center', bbox_to_anchor=(0.5, 0), **_style(handles))


def figure_legend(figure, handles, labels, handle: float = HANDLE) -> None:
    """The legend for which :func:`grid` has left room; a handle may be a tuple of patches."""
    style = dict(_style(handles), ncols=legend_columns(labels, handle),
                 handlelength=1.2 + (handle - HANDLE) * 72 / SMALL)
    figure.legend(handles, labels, loc='lower center',
                  handler_map={tuple: HandlerTuple(ndivide=None, pad=0)}, **style)


def legend_columns(labels, handle: float = HANDLE) -> int:
    """How many columns of a legend fit side by side."""
    widest = max(len(label) for label in labels)
    return max(1, min(len(labels), int((WIDTH - 0.4) / (handle + LETTER * widest))))


def _style(handles) -> dict:
    return dict(ncols=len(handles), fontsize=SMALL, frameon=False, handlelength=1.2,
                columnspacing=1.2, borderaxespad=0.2)


def save(figure: Figure, path, title: str = '', caption: str = '') -> Path:
    """Write a figure as PNG, 1000 pixels wide; folders are made.

    ``title`` and ``caption`` go into the file as its Title and Description: a page that shows it
    has them to say.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata=dict(Title=title, Description=caption))
    return path


def contact_sheet(paths, out) -> Path:
    """One PNG with all pictures in rows, as a screen has room for them, shrunk to fit its width."""
    from PIL import Image
    pictures = [Image.open(path).convert('RGB') for path in paths]
    wide, high = (max(sizes) for sizes in zip(*(picture.size for picture in pictures)))
    columns = sheet_columns(len(pictures), wide, high)
    scale = min(1.0, SHEET / (columns * wide))
    wide, high = round(scale * wide), round(scale * high)
    sheet = Image.new('RGB', (columns * wide, -(-len(pictures) // columns) * high), 'white')
    for index, picture in enumerate(pictures):
        if scale < 1:
            picture = picture.resize([round(scale * side) for side in picture.size], Image.LANCZOS)
        sheet.paste(picture, (index % columns * wide, index // columns * high))
    sheet.save(out)
    return Path(out)


def sheet_columns(number: int, wide: int, high: int) -> int:
    """How many of ``number`` pictures of a size stand side by side, for a sheet that is about half
    as wide again as high."""
    def off(columns: int) -> float:
        return abs(math.log(columns * wide / (-(-number // columns) * high) / 1.5))

    return min((-(-number // rows) for rows in range(1, number + 1)), key=off)  # no row is wasted
