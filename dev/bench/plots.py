"""Results as pictures: colours that colour-blind readers can tell, and a marker for each line."""
from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullLocator

# Okabe and Ito's palette
COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9']
MARKERS = 'os^Dv*'
AXES = {'classes': 'classes C', 'parts': 'parts per class K', 'crop': 'crop in pixels'}


def draw(results: dict, device: str, folder: Path) -> list[Path]:
    """Write pieces-DEVICE.png and growth-DEVICE.png, where there is something to show."""
    rows = results.get('pieces', {}).get('rows')
    if not rows:
        return []
    batch = results.get('growth', {}).get('rows') or []
    return [ratios(rows, folder / f'pieces-{device}.png'),
            growth(rows, batch, folder / f'growth-{device}.png')]


def ratios(rows: list[dict], path: Path) -> Path:
    """Time over ours at the base setting; below 1 we lose."""
    bars = [(f"{row['piece']}: {name}", found['ratio']) for row in rows if row['base']
            for name, found in row['contenders'].items() if name != 'ours']
    fig, ax = plt.subplots(figsize=(9, 0.4 * len(bars) + 1.2))
    values = [value for _, value in bars]
    ax.barh(range(len(bars)), [v - 1 for v in values], left=1,
            color=[COLOURS[v < 1] for v in values])
    for i, value in enumerate(values):
        ax.annotate(f' {value:.2g}× ', (value, i), va='center', fontsize=9,
                    ha='right' if value < 1 else 'left')
    ax.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=9)
    ax.invert_yaxis()
    ax.set_xscale('log')
    ax.margins(x=0.15)
    ax.axvline(1, color='black', linewidth=1)
    ax.set_xlabel('time over that of mmseg_esl (1 = equal)')
    return save(fig, path)


def growth(rows: list[dict], batch: list[dict], path: Path) -> Path:
    """Our time against C, K, crop (over that of the base setting) and images (over one image)."""
    fig, axes = plt.subplots(1, 4, figsize=(15, 3.8), sharey=True)
    for i, middle in enumerate(row for row in rows if row['base']):
        piece = middle['piece']
        style = dict(color=COLOURS[i], marker=MARKERS[i], label=piece)
        for ax, (key, title) in zip(axes, AXES.items()):
            line = sorted((row['setting'][key], row['contenders']['ours']['seconds'])
                          for row in rows if row['piece'] == piece and middle['setting'] and all(
                              row['setting'][k] == v for k, v in middle['setting'].items()
                              if k != key))
            if len(line) > 1:
                one = middle['contenders']['ours']['seconds']
                ax.plot([x for x, _ in line], [y / one for _, y in line], **style)
            ax.set_xlabel(title)
        line = sorted((row['images'], row['seconds']) for row in batch if row['piece'] == piece)
        if line:
            axes[3].plot([x for x, _ in line], [y / line[0][1] for _, y in line], **style)
    axes[3].set_xlabel('images')
    for ax in axes:
        ax.set(xscale='log', yscale='log')
        ax.grid(alpha=0.3, which='both')
        ticks = sorted({x for line in ax.lines for x in line.get_xdata()})
        ax.set_xticks(ticks, [str(x) for x in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{y:g}×'))
    axes[0].set_ylabel('time, relative')
    handles = dict(reversed(pair) for ax in axes for pair in zip(*ax.get_legend_handles_labels()))
    fig.legend(handles.values(), handles, loc='upper center', ncol=len(handles) or 1,
               frameon=False)
    return save(fig, path, rect=(0, 0, 1, 0.92))


def save(fig, path: Path, **layout) -> Path:
    fig.tight_layout(**layout)
    fig.savefig(path, dpi=110)
    plt.close(fig)
    return path
