"""What a run trains on: scenes, towers, synonyms and captions, from the options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paperworks import inputs, runs
from paperworks.errors import InputError
from paperworks.inputs.wordnet import WordNet
from paperworks.papers.gkc import shape_world
from paperworks.papers.gkc.config import Config
from paperworks.papers.gkc.grounding import caption_nouns
from paperworks.papers.gkc.scene_files import SceneFiles, read_captions, read_scenes
from paperworks.papers.gkc.segments import Scene
from paperworks.papers.gkc.starting import bundled_towers
from paperworks.papers.gkc.synonyms import SynonymTable, build_synonyms
from paperworks.papers.gkc.towers import Towers, load_towers
from paperworks.papers.gkc.world_scores import scene_sets

TEST_SCENES = 60
FEWEST = 4
"""Images that a training needs."""


@dataclass
class RunInput:
    """What a run works on.

    Attributes
    ----------
    train : scenes of the size that the model takes.
    test : scenes of their own size, which training does not see.
    class_names : the trained classes; then, of the shape world, the novel ones, which only the test has.
    trained : how many of the classes are trained.
    unseen, counted : classes of the unseen mean, and of the seen mean.
    sets : of the shape world, further test scenes: of base shapes, and of novel ones.
    """

    train: list[Scene]
    test: list[Scene]
    class_names: list[str]
    trained: int
    counted: list[int]
    unseen: list[int] = field(default_factory=list)
    stuff: tuple[int, ...] = ()
    notes: list[str] = field(default_factory=list)
    sets: tuple[list[Scene], list[Scene]] | None = None

    @property
    def asked(self) -> list[Scene]:
        """The images in which other names are looked for."""
        return self.test if self.sets is None else self.sets[1]


def read_input(config: Config, run: runs.Run) -> RunInput:
    """Scenes to train on and to test with."""
    return _shapes(config, run) if config.bundled else _files(config, run)


def _shapes(config: Config, run: runs.Run) -> RunInput:
    run.step("making scenes of shapes before photographs")
    count = min(config.scenes, config.limit or config.scenes)
    every = list(shape_world.EVERY)
    tests = min(TEST_SCENES, max(2, count // 4))
    train = shape_world.make_scenes(count, 2 * (config.seed % 2**62), shape_world.BASE, every)
    test = shape_world.make_scenes(tests, 2 * (config.seed % 2**62) + 1, shape_world.COMBINATIONS, every)
    size = (config.side, config.side)
    trained, shapes = len(shape_world.TRAINED), len(shape_world.BASE)
    note = (
        f"{count} made scenes to train on, with {shapes} base shapes before two photographs; {tests} to test with, "
        f"in which {len(shape_world.NOVEL)} novel combinations occur, too."
    )
    return RunInput(
        [scene.resized(size) for scene in train],
        test,
        every,
        trained,
        list(range(shapes)),
        list(range(trained, len(every))),
        (shapes, shapes + 1),
        [note],
        scene_sets(max(2, tests // 2), 2 * (config.seed % 2**62) + 2),
    )


def _files(config: Config, run: runs.Run) -> RunInput:
    assert config.masks is not None
    assert config.names is not None
    run.step(f"reading {config.images} and {config.masks}")
    files = read_scenes(
        config.images,
        config.masks,
        config.names,
        ignore=config.ignore,
        instances=config.instances,
        progress=run.progress,
    )
    rng = np.random.default_rng([config.seed, 7])
    order = rng.permutation(len(files))[: config.limit]
    if len(order) < FEWEST:
        raise InputError("images", f"{len(order)} with masks", f"{FEWEST} or more")
    tests = max(1, round(config.test_size * len(order)))
    size = (config.side, config.side)
    test = [files.scene(int(n)) for n in run.progress(sorted(order[:tests]), "reading test images")]
    train = [_trained(files, int(n), size) for n in run.progress(sorted(order[tests:]), "reading images")]
    if not any(scene.segments for scene in train):
        raise InputError("masks", "no segment in the training images", "masks with ids that names has")
    names = files.class_names
    notes = [*files.notes, f"{len(train)} images to train on, {len(test)} to test with."]
    return RunInput(train, test, names, len(names), list(range(len(names))), [], files.stuff, notes)


def _trained(files: SceneFiles, index: int, size: tuple[int, int]) -> Scene:
    return files.scene(index).resized(size)


def read_towers(config: Config) -> Towers:
    """The text tower, and the teacher if there is one."""
    if config.towers is not None:
        return load_towers(config.towers, config.device)
    return bundled_towers() if config.bundled else load_towers()


def read_synonyms(config: Config, data: RunInput) -> tuple[SynonymTable, list[str]]:
    """Names of the trained classes, and what to say of them."""
    classes = data.class_names[: data.trained]
    if config.diversification == "off" or config.synonyms == "none":
        return SynonymTable({cls: (cls,) for cls in classes}), []
    if config.synonyms not in (None, "wordnet"):
        assert config.synonyms is not None
        table = SynonymTable.load(config.synonyms).of(classes)
        return table, [f"Synonyms from {config.synonyms}."]
    if config.bundled and config.synonyms is None:
        names = {cls: shape_world.synonyms_of(cls) for cls in classes}
        return SynonymTable({cls: tuple(found) for cls, found in names.items()}), ["Synonyms of the shape world."]
    try:
        folder = inputs.path("wordnet")
    except InputError:
        if config.synonyms == "wordnet":
            raise
        note = "Trained without synonyms: WordNet is not on this machine (paperworks data get wordnet)."
        return SynonymTable({cls: (cls,) for cls in classes}), [note]
    table = build_synonyms(classes, WordNet(folder))
    return table, ["Synonyms from WordNet's first senses. Review synonyms.json, and pass it with --synonyms."]


def read_words(config: Config, scenes: Sequence[Scene]) -> tuple[list[list[int]], list[str]] | None:
    """Nouns of the scenes' captions by number, and the nouns; None where the grounding loss takes names."""
    if config.grounding != "captions":
        return None
    assert config.captions is not None
    captions = read_captions(config.captions)
    try:
        lexicon = WordNet(inputs.path("wordnet"))
    except InputError:
        expected = "WordNet, which tells nouns (paperworks data get wordnet); or grounding names"
        raise InputError("grounding", "captions", expected) from None
    number: dict[str, int] = {}
    rows = []
    for scene in scenes:
        said = captions.get(scene.name) or captions.get(Path(scene.name).with_suffix("").as_posix(), [])
        nouns = caption_nouns(" ".join(said), lexicon)
        rows.append([number.setdefault(noun, len(number)) for noun in nouns])
    if not number:
        raise InputError(
            "captions", f"{config.captions}, without a noun for any image", "captions by the images' names"
        )
    return rows, list(number)
