"""Accuracy on the shape world as on two test sets of different classes, each with its own names only.

Base scenes have base shapes, and the names are those that were trained. Novel scenes have novel shapes, and the names
are the novel ones and the backgrounds, as a test set of other classes is read with its own vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from paperworks.papers.gkc.prediction import Accuracy, accuracy_of, semantic_maps
from paperworks.papers.gkc.segmenter import GKCForOpenVocabularySegmentation
from paperworks.papers.gkc.segments import Scene
from paperworks.papers.gkc.shape_world import BACKGROUNDS, BASE, NOVEL, TRAINED, make_scenes
from paperworks.papers.gkc.towers import Towers

NOVEL_SET = (*NOVEL, *BACKGROUNDS)
Maps = Callable[[GKCForOpenVocabularySegmentation, Sequence[np.ndarray]], list[np.ndarray]]


def scene_sets(count: int, seed: int) -> tuple[list[Scene], list[Scene]]:
    """Scenes of base shapes, with classes of ``TRAINED``, and of novel ones, with classes of ``NOVEL_SET``."""
    return make_scenes(count, seed, BASE, TRAINED), make_scenes(count, seed + 1, NOVEL, NOVEL_SET)


def score(
    model: GKCForOpenVocabularySegmentation,
    towers: Towers,
    sets: tuple[Sequence[Scene], Sequence[Scene]],
    naming: Callable[[str], str] = str,
    maps: Maps = semantic_maps,
) -> tuple[float, float]:
    """Mean IoU of the base shapes on base scenes and of the novel ones on novel scenes; backgrounds do not count.

    The model is left with the vocabulary of the novel scenes.

    Parameters
    ----------
    naming : from a class to the name by which it is looked for.
    maps : from the model and images to semantic maps, such as the two-stage way.
    """
    found: list[Accuracy] = []
    for scenes, names, shapes in ((sets[0], TRAINED, len(BASE)), (sets[1], NOVEL_SET, len(NOVEL))):
        model.set_vocabulary([naming(name) for name in names], towers.encode_text)
        guess = maps(model, [scene.image for scene in scenes])
        found.append(accuracy_of(guess, scenes, len(names), range(shapes)))
    return found[0].seen, found[1].seen
