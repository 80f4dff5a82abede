"""EntityGrid asked of what users have: a pipeline of transformers, a server with OpenAI's API, folders of towers."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from paperworks.language.generation import EndpointGenerator
from paperworks.papers.hires_llava.actions.answers import kept_answers
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.entitygrid.answerers import endpoint_answerer, pipeline_answerer
from paperworks.papers.hires_llava.entitygrid.evaluation import evaluate
from paperworks.papers.hires_llava.entitygrid.generation import EntityDataset, EntityGrid
from paperworks.papers.hires_llava.towers import load_tower
from paperworks.runs import Run

from .towers_small import KINDS, tower


@pytest.fixture(scope="module")
def dataset() -> EntityDataset:
    whole = EntityGrid("digits", canvas=32, per_category=2, seed=1).dataset(9)
    return EntityDataset(whole.images, whole.records[:4])


def test_a_pipeline_of_transformers(dataset: EntityDataset) -> None:
    """A LLaVA with random weights: its own pipeline gives the same texts when it is called by hand."""
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "<image>", "<pad>", *"abcdefghijklmnopqrstuvwxyz"]
    plain = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", pad_token="<pad>", extra_special_tokens={"image_token": "<image>"}
    )
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = hf.CLIPVisionConfig(**small, image_size=16, patch_size=8)
    text = hf.LlamaConfig(**small, vocab_size=len(words), max_position_embeddings=512)
    torch.manual_seed(0)
    config = hf.LlavaConfig(vision_config=vision, text_config=text, image_token_index=1, image_seq_length=4)
    model = hf.LlavaForConditionalGeneration(config)
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{{ '<image>' if c['type'] == 'image' else c['text'] }} "
        "{% endfor %}{% endfor %}"
    )
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    )
    model.generation_config.max_new_tokens = 3
    pipeline = hf.pipeline("image-text-to-text", model=model.eval(), processor=processor)
    answer = pipeline_answerer(pipeline)
    found = evaluate(answer, dataset, n_resamples=0)
    record = dataset.records[0]
    image = dataset.image(record)
    assert found.answers[0][0] == answer(image, record.question, record.choices)
    assert all(isinstance(text, str) for text, _ in found.answers)
    assert 0 <= found.accuracy <= 1


def test_a_server_with_openais_api(dataset: EntityDataset) -> None:
    seen: list[tuple[int, int]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            picture, text = sorted(body["messages"][-1]["content"], key=lambda part: part["type"])
            data = base64.b64decode(picture["image_url"]["url"].split(",", 1)[1])
            seen.append(Image.open(io.BytesIO(data)).size)
            first = text["text"].rsplit(": ", 1)[1].split(",")[0]
            reply = {"choices": [{"message": {"role": "assistant", "content": f"The answer is {first}"}}]}
            data = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        generator = EndpointGenerator(f"http://127.0.0.1:{server.server_port}/v1", "some-model")
        found = evaluate(endpoint_answerer(generator), dataset, n_resamples=0)
    finally:
        server.shutdown()
        server.server_close()
    assert seen == [(32, 32)] * len(dataset)
    assert found.correct.tolist() == [r.answer == r.choices[0] for r in dataset.records]


def test_a_stopped_run_asks_nothing_twice(dataset: EntityDataset, tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(image: Image.Image, question: str, choices: Sequence[str]) -> str:
        asked.append(question)
        return choices[0]

    run = Run(tmp_path / "run", seed=0)
    whole = kept_answers(answer, dataset, run)
    assert len(asked) == len(dataset)
    file = run.state / "answers.jsonl"
    file.write_bytes(file.read_bytes()[:-3])  # killed while it wrote the last answer
    assert kept_answers(answer, dataset, Run(tmp_path / "run", seed=0, resumed=True)) == whole
    assert len(asked) == len(dataset) + 1


@pytest.mark.parametrize("kind", KINDS)
def test_towers_from_disk_give_their_own_tokens(kind: str, tmp_path: Path) -> None:
    module = tower(kind, seed=3)
    module.save_pretrained(tmp_path / kind)  # type: ignore[operator]
    loaded = load_tower(tmp_path / kind)
    pixels = loaded.normalised(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8))
    encoder = HiResVisionEncoder(tmp_path / kind, sampler=None, global_view=False).eval()
    with torch.no_grad():
        found = loaded(pixels)
        if kind != "tiny":
            assert torch.allclose(found, module(pixel_values=pixels).last_hidden_state, atol=1e-6)  # type: ignore[operator]
        one = encoder.maps(pixels[:1], [(1, 1)])[0].flatten(0, 1)
    assert found.shape == (2, loaded.prefix + 16, 16)
    assert torch.allclose(one, found[0, loaded.prefix :], atol=1e-6)
