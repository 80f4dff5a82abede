"""Transformable architecture search: widths and depth at a wanted cost, by gradient (arXiv 1905.09717)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.tas.baselines import random_genotype, uniform_genotype
    from paperworks.papers.tas.bilevel import Found, SearchSettings, search
    from paperworks.papers.tas.choices import ChoiceLogits, depth_candidates, width_candidates
    from paperworks.papers.tas.costs import Operator, macs, parameters, total_cost
    from paperworks.papers.tas.estimator import TransformableSearch
    from paperworks.papers.tas.expectation import ExpectedCost, cost_penalty
    from paperworks.papers.tas.inheritance import inherit_weights
    from paperworks.papers.tas.interpolation import channel_interpolation
    from paperworks.papers.tas.latency import LatencyTable, measure_latency_table
    from paperworks.papers.tas.network import ShapedNetwork, export_program
    from paperworks.papers.tas.released import released_shape
    from paperworks.papers.tas.shapes import NetworkShape, cifar_resnet, imagenet_resnet, plain_network
    from paperworks.papers.tas.supernet import SearchNetwork
    from paperworks.papers.tas.traced import TracedSpace
    from paperworks.papers.tas.transfer import TransferSettings, train_network
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "ChoiceLogits",
    "ExpectedCost",
    "Found",
    "LatencyTable",
    "NetworkShape",
    "Operator",
    "SearchNetwork",
    "SearchSettings",
    "ShapedNetwork",
    "TracedSpace",
    "TransferSettings",
    "TransformableSearch",
    "channel_interpolation",
    "cifar_resnet",
    "cost_penalty",
    "depth_candidates",
    "export_program",
    "imagenet_resnet",
    "inherit_weights",
    "macs",
    "measure_latency_table",
    "parameters",
    "plain_network",
    "random_genotype",
    "released_shape",
    "search",
    "total_cost",
    "train_network",
    "uniform_genotype",
    "width_candidates",
]
