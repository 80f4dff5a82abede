"""GKC's segmenter alone beside the two-stage way on the same masks: operations, time and weights, in one run.

    python benchmarks/gkc_two_stage.py [--rounds 5] [--side 128] [--crops 6] [--images 6]

Two stages: the same segmenter, then an image tower of CLIP on the crop of every mask. Neither operations nor time
depend on what the weights are, so they are random.

1. Operations at the paper's size (512 x 512, 100 queries, 100 crops of 224 x 224), counted on the meta device: CLIP's
   ViT-B/32, ViT-B/16 and RN50 as the second stage.
2. Time of the paper's segmenter (RN50) at --side, with --crops crops: a sixteenth of the paper's pixels and crops at
   the defaults, so that the ratio of operations stays. All crops go through the tower in one batch, the faster way.
3. The same with fewer crops: where masks were thrown away before the second stage. It says how few crops keep the
   two-stage way within 2 and 3 times of the segmenter alone.
4. The bundled small segmenter with its bundled teacher on made scenes, from image to map, cutting of crops included.

One thread; the two ways take turns in every round; ratios are geometric means of paired rounds with 95 % intervals.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks.metrics import ratio_interval
from paperworks.papers.gkc.clip_resnet import CLIPResNetBackbone, CLIPResNetConfig
from paperworks.papers.gkc.paper_size import (
    CROP,
    CROPS,
    RERUN,
    RERUN_SIZE,
    SIDE,
    clip_image_tower,
    multiply_adds,
    paper_cost,
    paper_student,
)
from paperworks.papers.gkc.prediction import semantic_maps
from paperworks.papers.gkc.shape_world import COMBINATIONS, EVERY, make_scenes
from paperworks.papers.gkc.starting import bundled_towers, new_segmenter
from paperworks.papers.gkc.two_stage import flops_of, two_stage_maps

GIGA = 1e9


def seconds_of(call: Callable[[], Any]) -> float:
    """Processor time of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def in_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of every way in every round, after one round to warm up."""
    found = [[seconds_of(way) for way in ways.values()] for _ in range(rounds + 1)][1:]
    return dict(zip(ways, np.array(found).T, strict=True))


def ratio(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The interval of paired ratios, as text."""
    found = ratio_interval(ours / theirs)
    return f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"


def resnet_tower() -> nn.Module:
    """CLIP's RN50 without its attention pool: the least that it costs."""
    return CLIPResNetBackbone(CLIPResNetConfig())


def operations() -> None:
    """Print the counts at the paper's size."""
    alone = paper_cost(32)[0].student_flops
    print(f"\nOperations of an image at {SIDE} x {SIDE}, 10^9 (a multiply and an add are two)")
    print(f"segmenter alone: {alone / GIGA:.0f}, {paper_cost(32)[1] / 1e6:.1f} million weights")
    again = multiply_adds(*RERUN_SIZE) / GIGA
    print(f"at {RERUN_SIZE[0]} x {RERUN_SIZE[1]}: {again:.1f} x 10^9 multiply-adds; a later run reports {RERUN}")
    with torch.device("meta"):
        crop = torch.zeros(1, 3, CROP, CROP)
        towers = {"ViT-B/32": clip_image_tower(32), "ViT-B/16": clip_image_tower(16), "RN50": resnet_tower()}
        for name, tower in towers.items():
            one = flops_of(lambda tower=tower: tower.eval()(crop))
            weights = sum(p.numel() for p in tower.parameters())
            total = alone + CROPS * one
            print(
                f"{name}: {one / GIGA:.1f} a crop, {CROPS} crops {total / GIGA:.0f}, {total / alone:.1f} times; "
                f"3 times with {2 * alone / one:.0f} crops; {weights / 1e6:.1f} million weights more"
            )


def paper_time(side: int, crops: int, rounds: int) -> None:
    """Print the time of the paper's segmenter, alone and followed by ViT-B/32 on crops."""
    torch.manual_seed(0)
    student, tower = paper_student().eval(), clip_image_tower(32).eval()
    image, every = torch.randn(1, 3, side, side), torch.randn(crops, 3, CROP, CROP)
    counts = sorted({count for count in (1, 2, 4) if count < crops} | {crops})

    def both(count: int) -> None:
        student(image)
        tower(every[:count])

    ways: dict[str, Callable[[], Any]] = {"alone": lambda: student(image)}
    ways |= {str(count): (lambda count=count: both(count)) for count in counts}
    with torch.no_grad():
        found = in_turns(ways, rounds)
        own, one = flops_of(ways["alone"]), flops_of(lambda: tower(every[:1]))
    print(f"\nTime of an image at {side} x {side}, ViT-B/32 on crops; the paper has 100 crops at {SIDE} x {SIDE}")
    print(f"segmenter alone: {np.median(found['alone']):.2f} s, {own / GIGA:.1f} x 10^9 operations")
    for count in counts:
        seconds = found[str(count)]
        print(
            f"{count} crops: {np.median(seconds):.2f} s, {ratio(seconds, found['alone'])} times; "
            f"operations {(own + count * one) / own:.2f} times"
        )


def small_time(images: int, rounds: int) -> None:
    """Print the time of the bundled segmenter from image to map, alone and with the bundled teacher on every mask."""
    model, towers = new_segmenter(seed=0).eval(), bundled_towers()
    model.set_vocabulary(list(EVERY), towers.encode_text)
    scenes = [scene.image for scene in make_scenes(images, 0, COMBINATIONS)]
    ways: dict[str, Callable[[], Any]] = {
        "alone": lambda: semantic_maps(model, scenes),
        "two stages": lambda: two_stage_maps(model, scenes, towers),
    }
    with torch.no_grad():
        found = in_turns(ways, rounds)
    print(f"\nThe bundled segmenter, {images} scenes of 64 x 64, from image to map")
    for name, seconds in found.items():
        print(f"{name}: {1000 * np.median(seconds) / images:.1f} ms an image")
    print(f"two stages: {ratio(found['two stages'], found['alone'])} times")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--crops", type=int, default=6)
    parser.add_argument("--images", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, medians of {options.rounds} rounds of processor time")
    operations()
    paper_time(options.side, options.crops, options.rounds)
    small_time(options.images, options.rounds)


if __name__ == "__main__":
    main()
