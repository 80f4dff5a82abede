"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError

OwnOr = Annotated[str | None, runs.File()]


class Config(runs.Config):
    """Options of ``paperworks run spar``."""

    prompts: Annotated[str, runs.File(("words",))] = Field(
        "words",
        description="prompts with instructions: a .jsonl file in IFEval's format (id or key, prompt, "
        "instruction_id_list, kwargs), or words: definitions of WordNet's words",
    )
    seeds: OwnOr = Field(
        None, description="plain requests to make prompts of, in place of prompts: a .jsonl or .txt file"
    )
    rewrite: bool = Field(False, description="let the model write the constraints into your seeds, over all 14 kinds")
    test_prompts: OwnOr = Field(None, description="prompts to score on, a .jsonl file; default a share of the prompts")
    test_share: float = Field(0.3, ge=0, lt=1, description="share of the prompts that are scored on, not trained on")
    model: OwnOr = Field(
        None, description="the actor: a Hugging Face folder of a causal language model; default the bundled model"
    )
    endpoint: Annotated[str | None, runs.CommandLineOnly()] = Field(
        None, description="the actor behind an OpenAI-compatible address, or several, separated by commas"
    )
    endpoint_model: Annotated[str | None, runs.CommandLineOnly()] = Field(
        None, description="the model's name at the endpoint"
    )
    refiner: Annotated[str | None, runs.File(("editor", "same"))] = Field(
        None,
        description="what repairs: a Hugging Face folder, same (as the actor), editor (a program); default editor for "
        "the bundled model, otherwise same",
    )
    refiner_endpoint: Annotated[str | None, runs.CommandLineOnly()] = Field(
        None, description="the refiner behind an OpenAI-compatible address"
    )
    refiner_endpoint_model: Annotated[str | None, runs.CommandLineOnly()] = Field(
        None, description="the refiner's name at its endpoint"
    )
    key_variable: Annotated[str, runs.CommandLineOnly()] = Field(
        "OPENAI_API_KEY", description="environment variable with the key of the endpoints"
    )
    parallel: int = Field(8, ge=1, le=512, description="requests to endpoints at the same time")
    timeout: float = Field(120.0, gt=0, le=1e6, description="seconds without a byte until a request is tried again")
    attempts: int = Field(5, ge=1, le=100, description="tries of one request to an endpoint")
    judge: Literal["auto", "rule", "model", "both"] = Field(
        "auto",
        description="what judges: rule (verifiable instructions), model (votes of the refiner), both; auto is rule for "
        "the editor, else both where prompts have instructions and model where not",
    )
    start_chats: OwnOr = Field(
        None, description="stage 0: a .jsonl file of chats (messages) that the actor is tuned on before the first round"
    )
    refiner_start_chats: OwnOr = Field(
        None,
        description="stage 0: a .jsonl file of judgements and repairs (messages) for the refiner, likewise",
    )
    rounds: int = Field(3, ge=1, le=20, description="rounds of self-play")
    prompts_per_round: int | None = Field(
        None, ge=1, le=1_000_000, description="prompts of one round; default 10000, and 40 of the bundled words"
    )
    responses: int = Field(5, ge=1, le=100, description="responses to each prompt")
    temperature: float = Field(0.9, ge=0, le=5, description="temperature of the responses")
    top_p: float = Field(0.9, gt=0, le=1, description="nucleus of the responses")
    votes: int = Field(5, ge=1, le=99, description="judgements of each response by a model")
    judge_temperature: float = Field(0.7, ge=0, le=5, description="temperature of the judgements")
    refine_temperature: float = Field(0.7, gt=0, le=5, description="temperature of the repairs")
    max_new_tokens: int | None = Field(
        None, ge=1, le=100_000, description="tokens of a response; default 2048, and 28 for the bundled model"
    )
    judge_tokens: int = Field(2048, ge=1, le=100_000, description="tokens of a judgement")
    refine_tokens: int = Field(3072, ge=1, le=100_000, description="tokens of a repair with its reflection")
    strict_official_parser: bool = Field(False, description="read judgements as the authors' code does")
    editor_repair: float = Field(0.6, ge=0, le=1, description="editor: probability that it repairs a fault")
    editor_harm: float = Field(0.1, ge=0, le=1, description="editor: probability that it spoils a response")
    algorithm: Literal["bfs", "dfs"] = Field("bfs", description="breadth-first or depth-first search")
    branch: int = Field(3, ge=1, le=100, description="repairs of each response in the search")
    select: int = Field(2, ge=1, le=100, description="responses that are repaired further")
    max_depth: int = Field(3, ge=1, le=50, description="repairs in a row")
    budget: int = Field(1000, ge=1, le=1_000_000_000, description="repairs that are judged in one search, at most")
    gate: float = Field(0.5, ge=0, lt=1, description="a share of yes votes above it passes")
    select_method: Literal["greedy", "sample"] = Field(
        "greedy", description="repair the best further, or draw in proportion to their values"
    )
    pairs: Literal["refinement", "independent"] = Field(
        "refinement", description="pairs of a repaired and a failed response, or of independent samples (the ablation)"
    )
    train: bool = Field(True, description="tune the actor, and a refiner that is a folder, after each round")
    trainer: Literal["own", "trl"] = Field(
        "own", description="this package's training loop, or TRL's (installed apart)"
    )
    beta: float = Field(0.1, gt=0, le=100, description="DPO: weight of the departure from the reference")
    sft_weight: float = Field(0.1, ge=0, le=100, description="DPO: weight of the chosen response's likelihood")
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="rate of DPO; default 2e-7, and 2e-4 for the bundled model"
    )
    refiner_learning_rate: float = Field(2e-6, gt=0, le=1, description="rate of SFT: the refiner, and stage 0")
    epochs: float | None = Field(
        None, gt=0, le=1000, description="passes of DPO over the pairs; default 1, and 3 for the bundled model"
    )
    refiner_epochs: float = Field(5.0, gt=0, le=1000, description="passes of SFT over its chats")
    batch_size: int = Field(2, ge=1, le=4096, description="pairs or chats in one forward pass")
    accumulation: int = Field(
        2, ge=1, le=4096, description="forward passes of DPO in one step; the refiner's are twice"
    )
    max_length: int = Field(2048, ge=2, le=1_000_000, description="tokens of a chat in DPO; the refiner's are twice")
    lora_rank: int = Field(0, ge=0, le=1024, description="rank of adapters; 0 trains all weights")
    precision: Literal["auto", "no", "bf16"] = Field("auto", description="bf16 autocast; auto uses it on GPUs")
    generation_batch: int = Field(32, ge=1, le=4096, description="answers that a local model generates at a time")
    chat_template: OwnOr = Field(None, description="a Jinja file with a chat template, for a tokenizer without one")
    inference: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="generated answers up to which searches at inference are compared on test prompts, 0 for none; "
        "default 15 for the bundled model, otherwise 0",
    )
    inference_prompts: int = Field(40, ge=1, le=100_000, description="test prompts of that comparison, at most")
    benchmark: OwnOr = Field(
        None, description="a .jsonl file with prompts that must not be trained on; overlaps are reported"
    )
    ngram: int = Field(8, ge=2, le=50, description="words in a row that count as an overlap")
    drop_overlaps: bool = Field(False, description="leave prompts that overlap with the benchmark out")

    @model_validator(mode="after")
    def _together(self) -> Config:
        conflicts = (
            ("endpoint", self.endpoint and self.model, "an address and a model folder", "one of model and endpoint"),
            (
                "endpoint_model",
                self.endpoint and not self.endpoint_model,
                "nothing",
                "the model's name at the endpoint",
            ),
            (
                "refiner_endpoint_model",
                self.refiner_endpoint and not self.refiner_endpoint_model,
                "nothing",
                "the refiner's name at its endpoint",
            ),
            (
                "refiner_endpoint",
                self.refiner_endpoint and self.refiner,
                "an address and a refiner",
                "one of refiner and refiner_endpoint",
            ),
            ("seeds", self.seeds and self.prompts != "words", "seeds and prompts", "one of seeds and prompts"),
            ("rewrite", self.rewrite and not self.seeds, "true without seeds", "your requests in seeds"),
            (
                "temperature",
                self.responses > 1 and self.temperature == 0,
                f"0, with {self.responses} responses to the same prompt",
                "a temperature above 0, or responses 1",
            ),
            (
                "judge_temperature",
                self.votes > 1 and self.judge_temperature == 0,
                f"0, with {self.votes} votes on the same response",
                "a temperature above 0, or votes 1",
            ),
        )
        for name, wrong, found, expected in conflicts:
            if wrong:
                raise InputError(name, found, expected)
        if self.judge in ("model", "both") and self.refiner == "editor":
            raise InputError("judge", f"{self.judge}, with the editor as refiner", "rule, or a model as refiner")
        return self
