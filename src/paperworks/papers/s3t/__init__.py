"""S3T: fine-tuning from which records are deleted exactly and at once (arXiv 2406.16257)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.s3t.bases import Base, folder_base, sentence_base, table_base
    from paperworks.papers.s3t.estimator import S3TClassifier
    from paperworks.papers.s3t.layers import Lora
    from paperworks.papers.s3t.manifest import DeletionReceipt, Manifest, UnknownRecordError
    from paperworks.papers.s3t.planner import Plan, plan
    from paperworks.papers.s3t.sequences import (
        bms_sequences,
        conditional_sequences,
        cyclic_sequences,
        mean_pairwise_distance,
        random_sequences,
        sequence_score,
        sorted_cyclic_sequences,
    )
    from paperworks.papers.s3t.simulation import Simulation, simulate_deletions
    from paperworks.papers.s3t.store import Folder
    from paperworks.papers.s3t.system import S3T
    from paperworks.papers.s3t.theory import deletion_rate, deletion_rate_std, retention_probability
    from paperworks.papers.s3t.verification import Verification, verify_folder
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "S3T",
    "Base",
    "DeletionReceipt",
    "Folder",
    "Lora",
    "Manifest",
    "Plan",
    "S3TClassifier",
    "Simulation",
    "UnknownRecordError",
    "Verification",
    "bms_sequences",
    "conditional_sequences",
    "cyclic_sequences",
    "deletion_rate",
    "deletion_rate_std",
    "folder_base",
    "mean_pairwise_distance",
    "plan",
    "random_sequences",
    "retention_probability",
    "sentence_base",
    "sequence_score",
    "simulate_deletions",
    "sorted_cyclic_sequences",
    "table_base",
    "verify_folder",
]
