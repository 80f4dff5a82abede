"""Pictures: the space with its chords, the circle of fifths, distances of keys, and what substitution does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paperworks.papers.music_word2vec.chords import FIFTHS_ORDER, NAMES, degree_word, word_name
from paperworks.papers.music_word2vec.model import MusicWord2Vec, is_silence
from paperworks.papers.music_word2vec.tonal import triad_vectors

_DOTS = 150
_COLOURS = {"major": "#c0392b", "minor": "#1f6f8b", "other": "#b9b9b9"}


def draw_space(model: MusicWord2Vec, seed: int) -> Figure:
    """The most frequent words in two dimensions (t-SNE on cosine distance), the triads by name."""
    words = [w for w in model.vocab_.words if not is_silence(w)][:_DOTS]
    major = {degree_word(t, "I"): t for t in range(12)}
    minor = {degree_word(t, "vi"): t for t in range(12)}
    words += [w for w in (*major, *minor) if w in model.ids_ and w not in words]
    places = _flat(model.vectors_[[model.ids_[w] for w in words]], seed)
    figure = Figure(figsize=(7.2, 5.6))
    axes = figure.add_subplot()
    for kind, chosen in (("other", None), ("major", major), ("minor", minor)):
        rows = [i for i, w in enumerate(words) if (w in chosen if chosen is not None else w not in {**major, **minor})]
        if not rows:
            continue
        size = 14 if chosen is None else 46
        label = {"other": "other slices", "major": "major triads", "minor": "minor triads"}[kind]
        axes.scatter(
            places[rows, 0], places[rows, 1], s=size, color=_COLOURS[kind], label=label, linewidths=0, zorder=2
        )
        if chosen is not None:
            for i in rows:
                axes.annotate(
                    word_name(words[i]), places[i], xytext=(4, 3), textcoords="offset points", fontsize=8.5, zorder=3
                )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _flat(rows: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(rows) < 30:
        return np.asarray(PCA(2, random_state=seed % 2**32).fit_transform(rows))
    chosen = TSNE(2, metric="cosine", perplexity=min(15, len(rows) / 4), init="random", random_state=seed % 2**32)
    return np.asarray(chosen.fit_transform(rows), dtype=np.float64)


def draw_circle(model: MusicWord2Vec) -> Figure:
    """The 12 major triads in the plane of their first two principal components, joined in fifths."""
    rows = triad_vectors(model)[list(FIFTHS_ORDER)]
    here = np.isfinite(rows).all(axis=1)
    centred = rows[here] - rows[here].mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    places = (left[:, :2] * size[:2]) * np.where(np.abs(left[:, :2]).argmax(axis=0) < 0, 1, 1)
    names = [NAMES[t] for t, there in zip(FIFTHS_ORDER, here, strict=True) if there]
    figure = Figure(figsize=(4.6, 4.4))
    axes = figure.add_subplot()
    closed = np.vstack([places, places[:1]]) if here.all() else places
    axes.plot(*closed.T, color="#b9b9b9", linewidth=1.2, zorder=1)
    axes.scatter(places[:, 0], places[:, 1], color=_COLOURS["major"], s=46, zorder=2)
    for name, place in zip(names, places, strict=True):
        axes.annotate(name, place, xytext=(5, 4), textcoords="offset points", fontsize=10, zorder=3)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure


def draw_keys(matrix: np.ndarray, steps: np.ndarray, untrained: np.ndarray) -> Figure:
    """Distances of the 12 keys as a map, and by fifths beside untrained vectors."""
    figure = Figure(figsize=(8.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    names = [NAMES[t] for t in FIFTHS_ORDER]
    image = left.imshow(matrix, cmap="viridis_r", vmin=0)
    left.set_xticks(range(12), names, fontsize=8.5)
    left.set_yticks(range(12), names, fontsize=8.5)
    left.set_xlabel("key, in fifths")
    figure.colorbar(image, ax=left, label="cosine distance", shrink=0.85)
    _by_fifths(right, {"trained": steps, "untrained": untrained})
    return figure


def _by_fifths(axes: Axes, lines: dict[str, np.ndarray]) -> None:
    for (name, values), colour in zip(lines.items(), (_COLOURS["minor"], _COLOURS["other"]), strict=True):
        axes.plot(range(1, 7), values, marker="o", color=colour, label=name)
    axes.set_xlabel("fifths between two keys")
    axes.set_ylabel("cosine distance")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def draw_chords(table: dict[str, tuple[float, float]]) -> Figure:
    """Mean distance to chords inside and outside the key, for each kind of vectors."""
    figure = Figure(figsize=(6.4, 0.55 * len(table) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    for row, (inside, outside) in enumerate(table.values()):
        axes.plot([inside, outside], [row, row], color="#d0d0d0", linewidth=2, zorder=1)
        axes.scatter(inside, row, color=_COLOURS["minor"], s=50, zorder=2, label="V, IV, vi" if row == 0 else None)
        axes.scatter(outside, row, color=_COLOURS["major"], s=50, zorder=2, label="bIII, v, bII" if row == 0 else None)
    axes.set_yticks(range(len(table)), list(table))
    axes.invert_yaxis()
    axes.set_xlabel("mean cosine distance to the tonic triad")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_substitution(sizes: Sequence[int], curves: dict[str, list[float]], levels: dict[str, float]) -> Figure:
    """Share of pitch classes inside the key by the number of neighbours to choose from."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for (name, values), colour in zip(curves.items(), (_COLOURS["minor"], _COLOURS["major"]), strict=False):
        axes.plot(sizes, values, marker="o", label=name, color=colour)
    for (name, value), style in zip(levels.items(), ("--", ":"), strict=False):
        axes.axhline(value, color="#808080", linestyle=style, label=name)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(s) for s in sizes])
    axes.minorticks_off()
    axes.set_xlabel("neighbours to choose from (m)")
    axes.set_ylabel("share inside the key")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    return figure
