"""A network pruned with and without the metanetwork, or a metanetwork trained for a family of networks."""

from __future__ import annotations

from paperworks import runs
from paperworks.extras import require_extra
from paperworks.papers.meta_pruning.config import METANETWORKS, Config
from paperworks.papers.meta_pruning.metanetwork import GraphMetaNetwork
from paperworks.papers.meta_pruning.reporting import prune_report, train_report
from paperworks.papers.meta_pruning.workbench import fit_pruner, pruner_of, read_bench

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Prune a network by one pass through a metanetwork and fine-tuning; or train the metanetwork."""
    if config.onnx:
        require_extra("onnx", "an ONNX file")
    if config.metanetwork not in METANETWORKS:
        GraphMetaNetwork.from_pretrained(config.metanetwork)  # refused now rather than after the training
    run.step(f"reading {config.data}")
    bench = read_bench(config, run)
    if config.action == "prune":
        return prune_report(config, bench, run)
    pruner = fit_pruner(pruner_of(config), config, bench, run)
    pruner.metanetwork_.save_pretrained(run.output("metanetwork"))
    return train_report(config, bench, pruner, run)
