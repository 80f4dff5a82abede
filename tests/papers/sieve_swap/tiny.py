"""Options of a second, for the tests that walk the catalogue."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def options(folder: Path) -> list[dict[str, Any]]:
    """Two transcripts sieved by words, steps in order along them, a model, and predictions of another system scored."""
    transcripts = folder / "transcripts"
    transcripts.mkdir(exist_ok=True)
    (transcripts / "soup.srt").write_text(
        "1\n00:00:01,000 --> 00:00:04,000\nHello and welcome to my channel everybody.\n\n"
        "2\n00:00:05,000 --> 00:00:09,000\nFirst chop the onion and the carrots into cubes.\n\n"
        "3\n00:00:12,000 --> 00:00:16,000\nThen simmer the soup until the potatoes are tender.\n",
        encoding="utf-8",
    )
    (transcripts / "talk.vtt").write_text(
        "WEBVTT\n\n00:00:01.000 --> 00:00:04.000\nWe talked about football for the whole evening.\n", encoding="utf-8"
    )
    procedures = folder / "procedures.jsonl"
    steps = ["Chop the onion and carrots into cubes.", "Pour in the stock.", "Simmer until the potatoes are tender."]
    procedures.write_text(json.dumps({"id": "soup", "title": "Soup", "steps": steps}) + "\n", encoding="utf-8")
    references = folder / "references.json"
    truth = {"soup": {"duration": 20.0, "timestamps": [[5, 9], [12, 16]], "sentences": [steps[0], steps[2]]}}
    references.write_text(json.dumps(truth), encoding="utf-8")
    predictions = folder / "predictions.json"
    found = {"results": {"soup": [{"timestamp": [4.0, 9.5], "sentence": "Chop the onion."}]}}
    predictions.write_text(json.dumps(found), encoding="utf-8")
    features = folder / "features"
    features.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    videos = {}
    for n in range(5):
        np.save(features / f"v{n}.npy", rng.normal(size=(18, 6)).astype(np.float32))
        videos[f"v{n}"] = {"duration": 20.0, "timestamps": [[2, 8], [10, 18]], "sentences": steps[:2]}
    dataset = folder / "dataset.json"
    dataset.write_text(json.dumps(videos), encoding="utf-8")
    small = {"epochs": 1, "batch_size": 2, "dim": 8, "queries": 4, "positions": 16}
    files = {"transcripts": str(transcripts), "procedures": str(procedures), "encoder": "tfidf"}
    return [
        files | {"references": str(references)},
        files | {"action": "align", "tau": "0.2"},
        {"action": "train", "dataset": str(dataset), "features": str(features)} | small,
        {"action": "evaluate", "predictions": str(predictions), "references": str(references)},
    ]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    features = str(folder / "features")
    train = options(folder)[2]
    return {
        "pretrain": train | {"pretrain_features": features},
        "pretrain_features": train | {"pretrain": train["dataset"]},
        "model": {"action": "predict", "features": features},
    }
