"""The report of the recipe: what the vectors hold of harmony, beside vectors that know less; the variation; files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.music_word2vec import baselines, figures, tonal
from paperworks.papers.music_word2vec.chords import estimate_key, word_name
from paperworks.papers.music_word2vec.config import Config
from paperworks.papers.music_word2vec.model import MusicWord2Vec, is_silence
from paperworks.papers.music_word2vec.substitution import Substitutes, key_consistency
from paperworks.runs.files import write_text

if TYPE_CHECKING:
    from paperworks.papers.music_word2vec.recipe import Corpus
    from paperworks.papers.music_word2vec.slices import SliceEncoder
    from paperworks.papers.music_word2vec.variation import Variation

SIZES = (1, 5, 20, 80, 200)
"""Sizes of the subspace for the curve of substitution."""
_SHOWN = ("C", "G", "F", "Am", "Dm", "G7")


def make_report(
    config: Config, run: runs.Run, corpus: Corpus, model: MusicWord2Vec, encoder: SliceEncoder
) -> runs.Report:
    """All parts of the report."""
    files = _save(run, corpus, model, encoder)
    parts = _Parts(config, run, corpus, model, list(corpus.notes), files)
    tables: list[runs.Table] = [parts.corpus_table()]
    drawn: list[runs.Figure] = []
    headline = f"{len(model.vocab_.words)} slices got vectors from {len(corpus.train)} scores"
    metrics: dict[str, float] = {"slices": sum(map(len, corpus.words)), "distinct slices": parts.distinct}
    if config.representation == "pc":
        run.step("distances of chords and keys")
        headline, more = parts.harmony(tables, drawn)
        metrics |= more
        run.step("substitution")
        metrics |= parts.substitution(tables, drawn)
        run.step("varying a score")
        parts.variation(tables, encoder)
    else:
        parts.notes.append("Words of 88 keys have no chords in all octaves: no report on harmony and no variation.")
    if corpus.skipped:
        rows: list[list[Any]] = [[name, reason] for name, reason in corpus.skipped[:50]]
        tables.append(runs.Table(f"Files left out ({len(corpus.skipped)})", ["file", "reason"], rows))
    return runs.Report(headline=headline, metrics=metrics, tables=tables, figures=drawn, files=files, notes=parts.notes)


class _Parts:
    """The parts of a report that share the model and the corpus."""

    def __init__(
        self,
        config: Config,
        run: runs.Run,
        corpus: Corpus,
        model: MusicWord2Vec,
        notes: list[str],
        files: list[runs.ReportFile],
    ) -> None:
        self.config, self.run, self.corpus, self.model = config, run, corpus, model
        self.notes, self.files = notes, files
        self.distinct = len({w for words in corpus.words for w in words if not is_silence(w)})

    def corpus_table(self) -> runs.Table:
        """What was read."""
        model, words = self.model, self.corpus.words
        unknown = int(model.vocab_.counts[0]) / max(int(model.vocab_.counts.sum()), 1)
        rows: list[list[Any]] = [
            ["scores", len(words)],
            ["of them held out", len(self.corpus.held)],
            ["slices", sum(map(len, words))],
            ["distinct slices, without silence", self.distinct],
            ["words with a vector of their own", len(model.vocab_.words)],
            ["share of slices without one", unknown],
            ["loss per pair, first", float(model.loss_curve_[0])],
            ["loss per pair, last", float(model.loss_curve_[-1])],
        ]
        note = "The paper's corpus has 4,076 distinct slices of 4,095 possible ones without silence."
        return runs.Table("Corpus and training", ["", "value"], rows, note)

    # -- harmony ---------------------------------------------------------------------------------------------------

    def harmony(self, tables: list[runs.Table], drawn: list[runs.Figure]) -> tuple[str, dict[str, float]]:
        """Chord distances, keys, the circle of fifths, and the same for vectors that know less."""
        model, test = self.model, self.corpus.test
        missing = tonal.missing_triads(model)
        if missing:
            self.notes.append(
                f"Not frequent enough for a vector: {', '.join(missing)}. Distances to them are missing (NaN); "
                "more scores or a larger vocabulary bring them."
            )
        others = {
            "trained": model,
            "PMI and SVD": baselines.pmi_model(model, self.corpus.train),
            "shared notes": baselines.overlap_model(model),
            "untrained": self._untrained(),
        }
        found = {name: _measure(m, test) for name, m in others.items()}
        write_text(self.run.files / "tonal_report.csv", tonal.tonal_report(model, test).to_csv(index=False))
        self.files.append(runs.ReportFile("tonal_report.csv", "all distances and angles of chords and keys"))
        self._comparison(tables, found)
        self._chord_table(tables)
        self._neighbours(tables)
        drawn.append(
            runs.Figure(
                "The space of slices",
                figures.draw_space(model, self.config.seed),
                "The most frequent slices and all triads in the vocabulary, by t-SNE on cosine distance.",
            )
        )
        trained = found["trained"]
        if int(np.isfinite(tonal.triad_vectors(model)).all(axis=1).sum()) >= 4:
            caption = "Major triads on their first two principal components, joined in fifths. Keys were never given."
            drawn.append(runs.Figure("Circle of fifths", figures.draw_circle(model), caption))
        sides = {name: (m["inside"], m["outside"]) for name, m in found.items() if np.isfinite(m["outside"])}
        if sides:
            caption = "Mean over the tonics: chords of the key beside chords outside of it."
            drawn.append(runs.Figure("Chords inside and outside the key", figures.draw_chords(sides), caption))
        self._keys(drawn, trained, found["untrained"])
        return self._headline(trained, found["shared notes"]), {
            "Spearman with fifths": trained["rho"],
            "distance inside the key": trained["inside"],
            "distance outside the key": trained["outside"],
            "tonics nearer to their own chords": trained["tonics"],
            "keys, one fifth over six": trained["ratio"],
        }

    def _untrained(self) -> MusicWord2Vec:
        options = {k: v for k, v in self.model.get_params().items() if k not in ("steps", "random_state")}
        return baselines.untrained(self.corpus.train, seed=self.config.seed, **options)

    def _headline(self, trained: dict[str, Any], overlap: dict[str, Any]) -> str:
        if not np.isfinite(trained["rho"]):
            return f"{len(self.model.vocab_.words)} slices got vectors, too few triads among them for harmony"
        return (
            f"Correlation of chord distance with the circle of fifths {trained['rho']:.2f} (shared notes alone "
            f"{overlap['rho']:.2f}); {trained['tonics']:.0f} of {trained['asked']:.0f} tonic triads are nearer to V, "
            f"IV and vi ({trained['inside']:.2f}) than to bIII, v and bII ({trained['outside']:.2f})"
        )

    def _comparison(self, tables: list[runs.Table], found: dict[str, dict[str, Any]]) -> None:
        columns = ["vectors", "Spearman with fifths", "V, IV, vi", "bIII, v, bII", "tonics nearer to their own"]
        rows: list[list[Any]] = [
            [n, m["rho"], m["inside"], m["outside"], f"{m['tonics']:.0f} of {m['asked']:.0f}", m["ratio"], m["cos"]]
            for n, m in found.items()
        ]
        note = (
            "Distances are cosine distances. Shared notes: the 12 bits of a slice as its vector. PMI and SVD: the same "
            "pairs, counted. Keys 1/6: distance of keys one fifth apart over six fifths, less is better; it is small "
            "for shared notes too, since neighbouring keys share slices. I-V: cosine of the vectors from I to V of "
            "neighbouring keys; independent vectors give -0.5. The paper shows these as figures, without values."
        )
        tables.append(
            runs.Table("What the vectors hold of harmony", [*columns, "keys 1/6", "I-V, one fifth"], rows, note)
        )

    def _chord_table(self, tables: list[runs.Table]) -> None:
        table = tonal.chord_distances(self.model)
        rows: list[list[Any]] = [
            [str(t), *(float(x) for x in line)] for t, line in zip(table.index, table.to_numpy(), strict=True)
        ]
        note = "Cosine distance from the triad on the tonic; inside is the mean of V, IV, vi, outside of bIII, v, bII."
        tables.append(runs.Table("Distances of chords", ["tonic", *table.columns], rows, note))

    def _neighbours(self, tables: list[runs.Table]) -> None:
        rows: list[list[Any]] = []
        for name in _SHOWN:
            if self.model.index(name) is not None:
                near = self.model.most_similar(name, 5)
                rows.append([name, ", ".join(f"{word_name(w)} {s:.2f}" for w, s in near)])
        if rows:
            note = "Cosine similarity; words by chord name or notes."
            tables.append(runs.Table("Nearest slices", ["slice", "neighbours"], rows, note))

    def _keys(self, drawn: list[runs.Figure], trained: dict[str, Any], untrained: dict[str, Any]) -> None:
        if trained["keys"] is None:
            self.notes.append("No score has known slices in all 12 keys: the distances of keys are missing.")
            return
        names = [tonal.NAMES[t] for t in tonal.FIFTHS_ORDER]
        frame = pd.DataFrame(trained["keys"], index=names, columns=names)
        write_text(self.run.files / "key_matrix.csv", frame.to_csv())
        self.files.append(runs.ReportFile("key_matrix.csv", "cosine distance between the keys of one score"))
        pair = tonal.pair_angles(self.model)
        write_text(self.run.files / "pair_angles.csv", pair.to_csv())
        self.files.append(runs.ReportFile("pair_angles.csv", "angles in degrees between the I-V vectors of two keys"))
        steps = tonal.by_fifths(trained["keys"])
        other = tonal.by_fifths(untrained["keys"]) if untrained["keys"] is not None else np.full(6, np.nan)
        caption = f"Mean slice vectors of {len(self.corpus.test)} scores, each transposed to 12 keys."
        drawn.append(runs.Figure("Distances of keys", figures.draw_keys(trained["keys"], steps, other), caption))

    # -- substitution ----------------------------------------------------------------------------------------------

    def substitution(self, tables: list[runs.Table], drawn: list[runs.Figure]) -> dict[str, float]:
        """In-key share of the held-out scores after substitution, by the number of neighbours."""
        most = len([w for w in self.model.vocab_.words if not is_silence(w)]) - 1
        sizes = [m for m in SIZES if m <= most]
        found = substitution_shares(self.model, self.corpus.test, sizes, self.run)
        if not sizes or found is None:
            return {}
        rows: list[list[Any]] = [[m, *line] for m, line in zip(sizes, found["rows"], strict=True)]
        note = (
            f"Share of pitch classes inside the key of the score, mean of {len(self.corpus.test)} scores. Unchanged: "
            f"{found['original']:.3f}; random words of the vocabulary: {found['random']:.3f}. Keys are estimated from "
            "the unchanged slices (Krumhansl and Kessler)."
        )
        columns = ["m", "any neighbour", "the one that fits best", "distance, any", "distance, fit"]
        tables.append(runs.Table("Substitution stays in the key", columns, rows, note))
        curves = {
            "any neighbour": [r[0] for r in found["rows"]],
            "the one that fits best": [r[1] for r in found["rows"]],
        }
        levels = {"unchanged": found["original"], "random words": found["random"]}
        drawn.append(
            runs.Figure(
                "Substitution and the key",
                figures.draw_substitution(sizes, curves, levels),
                "The more neighbours a slice is replaced from, the more notes leave the key, unless the choice fits.",
            )
        )
        at = min(range(len(sizes)), key=lambda i: abs(sizes[i] - 20))
        return {f"in key, any of {sizes[at]} neighbours": found["rows"][at][0], "in key, unchanged": found["original"]}

    def variation(self, tables: list[runs.Table], encoder: SliceEncoder) -> None:
        """Vary a score and write it as MIDI and MusicXML."""
        from paperworks.papers.music_word2vec.variation import substitute, write_score

        source = self._source()
        if source is None:
            return
        m = min(self.config.neighbours, len([w for w in self.model.vocab_.words if not is_silence(w)]) - 1)
        if m < self.config.neighbours:
            self.notes.append(f"A slice is replaced from {m} words: the vocabulary has no more.")
        try:
            varied = substitute(
                source,
                self.model,
                m,
                self.config.seed,
                choice=self.config.choice,
                local=self.config.local,
                encoder=encoder,
            )
        except InputError as error:
            if self.config.vary is not None:
                raise
            self.notes.append(f"No variation: {error}")
            return
        for suffix, what in ((".mid", "MIDI"), (".musicxml", "MusicXML, for any notation program")):
            write_score(varied.score, self.run.output(f"variation{suffix}"))
            self.files.append(runs.ReportFile(f"variation{suffix}", f"the varied score as {what}"))
        tables.append(_variation_table(varied, Path(source).stem if Path(source).is_file() else source))

    def _source(self) -> str | None:
        if self.config.vary is not None:
            return self.config.vary
        corpus = self.corpus
        for i in corpus.held or range(len(corpus.pieces)):
            name = corpus.pieces[i].name
            if not corpus.files:
                return name
            if name in corpus.files:
                return str(corpus.files[name])
        return None


def substitution_shares(
    model: MusicWord2Vec, pieces: list[list[Any]], sizes: list[int], run: runs.Run
) -> dict[str, Any] | None:
    """In-key share by size: ``rows`` of (any, fit, distance any, distance fit), ``original`` and ``random`` words.

    None where all pieces are silent.
    """
    pieces = [words for words in pieces if any(not is_silence(w) for w in words)]
    if not pieces:
        return None
    keys = [estimate_key(words) for words in pieces]
    share = [key_consistency(words, key) for words, key in zip(pieces, keys, strict=True)]
    rows = []
    for m in run.progress(sizes, "sizes of the subspace"):
        choose, rng = Substitutes(model, m), run.rng(f"substitution {m}")
        some = [choose(words, choice="random", rng=rng) for words in pieces]
        fit = [choose(words) for words in pieces]
        shares = [np.mean([key_consistency(s.words, k) for s, k in zip(x, keys, strict=True)]) for x in (some, fit)]
        distances = [np.nanmean(np.concatenate([s.distance for s in x])) for x in (some, fit)]
        rows.append([float(v) for v in (*shares, *distances)])
    rng = run.rng("random words")
    words = [w for w in model.vocab_.words if not is_silence(w)]
    drawn = [[words[i] for i in rng.integers(len(words), size=len(p))] for p in pieces]
    random = np.mean([key_consistency(d, k) for d, k in zip(drawn, keys, strict=True)])
    return {"rows": rows, "original": float(np.mean(share)), "random": float(random)}


def _measure(model: MusicWord2Vec, test: list[list[Any]]) -> dict[str, Any]:
    table = tonal.chord_distances(model)
    both = table[["inside", "outside"]].dropna()
    keys = tonal.key_matrix_or_none(model, test)
    steps = np.full(6, np.nan) if keys is None else tonal.by_fifths(keys)
    return {
        "rho": tonal.fifths_correlation(model),
        "inside": float(both["inside"].mean()),
        "outside": float(both["outside"].mean()),
        "tonics": float((both["inside"] < both["outside"]).sum()),
        "asked": float(len(both)),
        "ratio": float(steps[0] / steps[5]),
        "keys": keys,
        "cos": float(tonal.by_fifths(tonal.pair_cosines(model))[0]),
    }


def _variation_table(varied: Variation, name: str) -> runs.Table:
    key = estimate_key(varied.before)
    rows: list[list[Any]] = []
    for i, (old, new) in enumerate(zip(varied.before, varied.after, strict=False)):
        distance = varied.substitution.distance[i]
        if i < 16:
            rows.append(
                [
                    float(varied.offsets[i]),
                    word_name(old),
                    word_name(varied.substitution.words[i]),
                    word_name(new),
                    None if np.isnan(distance) else float(distance),
                ]
            )
    note = (
        f"Key {key}: {key_consistency(varied.before, key):.1%} of pitch classes inside before, "
        f"{key_consistency(varied.after, key):.1%} after. What sounds differs from the substitute where a note is held "
        "from the beat before, or where there are fewer notes than pitch classes."
    )
    columns = ["quarter", "before", "substitute", "what sounds", "distance"]
    return runs.Table(f"Variation of {name}: the first {len(rows)} slices", columns, rows, note)


def _save(run: runs.Run, corpus: Corpus, model: MusicWord2Vec, encoder: SliceEncoder) -> list[runs.ReportFile]:
    model.save(run.output("model.npz"))
    model.save_word2vec_text(run.output("vectors.txt"))
    names = ["UNK", *(word_name(w) for w in model.vocab_.words)]
    frame = pd.DataFrame({"word": ["UNK", *model.vocab_.words], "name": names, "count": model.vocab_.counts})
    write_text(run.files / "words.csv", frame.to_csv(index=False))
    lines, held = [], set(corpus.held)
    for i, (piece, words) in enumerate(zip(corpus.pieces, corpus.words, strict=True)):
        begin = float(encoder.encode(piece)[1][0])
        lines.append(json.dumps({"piece": piece.name, "held_out": i in held, "begin": begin, "words": words}))
    write_text(run.files / "slices.jsonl", "\n".join(lines) + "\n")
    return [
        runs.ReportFile("model.npz", "the model: MusicWord2Vec.load"),
        runs.ReportFile("vectors.txt", "unit vectors in word2vec's text format: gensim's KeyedVectors, and others"),
        runs.ReportFile("words.csv", "every word with its chord name or notes, and how often it occurs"),
        runs.ReportFile("slices.jsonl", "the words of every score; bit 0 is C, bit 11 is B"),
    ]
