"""What a segmenter learns on the shape world in more steps than the study has, and what its trunk knows before.

    python benchmarks/gkc_learning.py trunk
    python benchmarks/gkc_learning.py curve --arm both [--steps 360] [--every 90] [--seed 100]

``trunk`` decodes scenes of base shapes with the bundled trunk as it is, matches queries with shapes by their masks, and
reads class, colour and form from a query with logistic regression: two thirds of the shapes train, the rest test. Then
the bundled teacher names segments of all shapes.
``curve`` trains one arm of the study ``shape-world`` (batches of 16, 1,000 scenes) and prints the mean IoU of base and
novel shapes while it trains, with their own names and with names that no training saw. Seed 100 is none of the study's.
"""

from __future__ import annotations

import argparse
from copy import deepcopy

import numpy as np
import torch

from paperworks.papers.gkc.fitting import Distillation, Diversification, fit_segmenter
from paperworks.papers.gkc.matching import HungarianMaskMatcher
from paperworks.papers.gkc.segments import Scene, pixel_values
from paperworks.papers.gkc.shape_world import (
    BASE,
    COMBINATIONS,
    EVERY,
    TRAINED,
    held_out_name,
    make_scenes,
    synonyms_of,
)
from paperworks.papers.gkc.starting import bundled_towers, new_segmenter
from paperworks.papers.gkc.synonyms import SynonymTable
from paperworks.papers.gkc.training_data import region_vectors
from paperworks.papers.gkc.two_stage import two_stage_maps
from paperworks.papers.gkc.vocabulary import encode_names
from paperworks.papers.gkc.world_scores import scene_sets, score
from paperworks.training import TrainSettings

ARMS: dict[str, tuple[Diversification, Distillation]] = {
    "plain": ("off", "off"),
    "synonyms": ("threshold", "off"),
    "both": ("threshold", "distance"),
    "point": ("threshold", "point"),
    "vision": ("threshold", "vision"),
}
BATCH = 25


def matched_queries(scenes: list[Scene]) -> tuple[np.ndarray, list[str]]:
    """The last queries ``[n, hidden]`` that lie on shapes, and the shapes' names."""
    model = new_segmenter(seed=0).eval()
    matcher = HungarianMaskMatcher(class_cost=0, points=256)
    features, names = [], []
    for start in range(0, len(scenes), BATCH):
        part = scenes[start : start + BATCH]
        pixels = pixel_values([s.image for s in part], model.config.image_mean, model.config.image_std)
        with torch.no_grad():
            outputs = model.decode(pixels, every=False)
        most = max(len(s.segments) for s in part)
        labels = torch.full((len(part), most), -1)
        masks = torch.zeros(len(part), most, *part[0].image.shape[:2])
        for row, scene in enumerate(part):
            for column, segment in enumerate(scene.segments):
                labels[row, column] = segment.label
                masks[row, column] = torch.from_numpy(segment.mask)
        logits = torch.zeros(*outputs.masks[-1].shape[:2], len(EVERY) + 1)
        found = matcher(logits, outputs.masks[-1], labels, masks)
        for row, column in (labels >= 0).nonzero().tolist():
            if labels[row, column] < len(BASE):
                features.append(outputs.queries[-1][row, found[row, column]].numpy())
                names.append(EVERY[int(labels[row, column])])
    return np.stack(features), names


def trunk() -> None:
    """Print how often class, colour and form can be read from the trunk's queries."""
    from sklearn.linear_model import LogisticRegression

    features, names = matched_queries(make_scenes(500, 5, BASE))
    train = len(names) * 2 // 3
    print(f"{len(names)} shapes, {len(names) - train} of them for the test")
    for what, of in (("class", str), ("colour", lambda name: name.split()[0]), ("form", lambda name: name.split()[1])):
        labels = np.array([of(name) for name in names])
        model = LogisticRegression(max_iter=3000).fit(features[:train], labels[:train])
        right = (model.predict(features[train:]) == labels[train:]).mean()
        print(f"{what}: {right:.3f}, chance {1 / len(set(labels)):.3f}")
    towers, scenes = bundled_towers(), make_scenes(100, 77, COMBINATIONS)
    texts = encode_names(EVERY, towers.encode_text)
    guess = (region_vectors(scenes, towers).vectors[0].numpy() @ texts.T).argmax(1)
    wanted = np.array([segment.label for scene in scenes for segment in scene.segments])
    print(f"the teacher names {(guess == wanted).mean():.3f} of the segments of scenes with all shapes")


def curve(arm: str, steps: int, every: int, seed: int) -> None:
    """Print the mean IoU of an arm while it trains."""
    towers = bundled_towers()
    scenes, sets = make_scenes(1000, 10_000 + seed, BASE), scene_sets(60, 20_000 + 2 * seed)
    model = new_segmenter(seed=seed)

    def look(step: int, loss: float, rate: float) -> None:
        if step % every == 0:
            copy = deepcopy(model)
            base, novel = score(copy, towers, sets)
            other, _ = score(copy, towers, sets, held_out_name)
            print(f"{step}: base {base:.3f}, novel {novel:.3f}, base with unseen names {other:.3f}", flush=True)

    settings = TrainSettings(
        steps=steps,
        batch_size=16,
        learning_rate=1e-3,
        weight_decay=0.05,
        clip_norm=1.0,
        warmup_steps=10,
        device="cpu",
        seed=seed,
    )
    table = SynonymTable({name: tuple(synonyms_of(name)) for name in TRAINED})
    names, form = ARMS[arm]
    fit_segmenter(
        model,
        scenes,
        table,
        towers,
        settings,
        diversification=names,
        distillation=form,
        points=128,
        backbone_rate=1.0,
        on_step=look,
    )
    base, novel = score(model, towers, sets, maps=lambda m, images: two_stage_maps(m, images, towers))
    print(f"the two-stage way on its masks: base {base:.3f}, novel {novel:.3f}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["trunk", "curve"])
    parser.add_argument("--arm", choices=ARMS, default="both")
    parser.add_argument("--steps", type=int, default=360)
    parser.add_argument("--every", type=int, default=90)
    parser.add_argument("--seed", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "trunk":
        trunk()
    else:
        curve(options.arm, options.steps, options.every, options.seed)


if __name__ == "__main__":
    main()
