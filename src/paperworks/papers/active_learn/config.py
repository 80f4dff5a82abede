"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError


class Config(runs.Config):
    """Options of ``paperworks run active-learn``."""

    error_names: ClassVar = {"categorical": "item", "p_yes": "table"}

    table: Annotated[str, runs.File(("zoo",))] = Field(
        "zoo",
        description="20 Questions: a table with a row for each item and a column for each question (yes and no, or the "
        "chance of a yes), or zoo (59 kinds of animals)",
    )
    item: str | None = Field(None, description="column of the items' names; default the first of text that all differ")
    ratings: Annotated[str | None, runs.File(("votes",))] = Field(
        None,
        description="recommendation, in place of the table: ratings with a row for each user and a column for each "
        "item, or votes (435 members of congress on 16 questions)",
    )
    arms: Annotated[str | None, runs.File(also=r"\d{1,3}")] = Field(
        None,
        description="best arm, in place of the table: how many arms, or a table of features with a row for each arm (a "
        "linear model over them)",
    )
    budget: int = Field(12, ge=1, le=1000, description="T: how many queries are asked")
    noise: float = Field(
        0.1, ge=0, lt=0.5, description="20 Questions: chance that an answer is flipped, beside what the table says"
    )
    archetypes: int = Field(6, ge=2, le=1000, description="ratings: how many kinds of users (clusters) there are")
    recommend: int = Field(1, ge=1, le=1000, description="ratings: how many items are recommended at the end")
    answers: Literal["gaussian", "bernoulli"] = Field(
        "gaussian", description="arms: answers are numbers with normal noise, or 0 and 1"
    )
    sigma: float = Field(1.0, gt=0, le=1e6, description="arms: standard deviation of a number's noise")
    loss: Literal["error", "regret"] = Field(
        "error", description="arms: chance of a wrong arm, or difference between the means of the best arm and of that"
    )
    classes: int = Field(3, ge=1, le=50, description="levels of difficulty")
    radii: tuple[float, ...] = Field(
        (), description="largest complexity C of each level; default from the quantiles of C"
    )
    network: Literal["auto", "mlp", "deepsets", "gru"] = Field(
        "auto", description="form of the policy network; auto is deepsets for arms without features, else mlp"
    )
    hidden: tuple[int, ...] = Field(
        (), description="widths of the hidden layers; default 96, or 32 for arms without features; full: 256,256,256"
    )
    iterations: int = Field(
        70, ge=1, le=1_000_000, description="steps of training for each level; 3000 is the full choice"
    )
    robust_iterations: int = Field(
        140, ge=1, le=1_000_000, description="steps of training against all levels; 6000 is the full choice"
    )
    particles: int = Field(24, ge=2, le=100_000, description="arms: adversary's instances of each level; full: 64")
    draws: int = Field(32, ge=1, le=10_000, description="instances that are played in each step")
    roll_outs: int = Field(16, ge=2, le=10_000, description="episodes of each instance in each step; full: 32")
    learning_rate: float = Field(3e-4, gt=0, le=1, description="Adam's learning rate of the policy; full: 0.001")
    adversary_entropy: float = Field(
        0.03,
        gt=0,
        le=10,
        description="weight of the entropy of the adversary's choice; 0.01 where many episodes are played",
    )
    test_rollouts: int = Field(
        4000, ge=100, le=10_000_000, description="episodes behind each worst case; at least 10,000 for small gaps"
    )

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.ratings is not None and self.arms is not None:
            raise InputError("arms", "arms beside ratings", "one of the two")
        other = self.ratings is not None or self.arms is not None
        fields = type(self).model_fields
        only = {
            "table": not other,
            "item": not other,
            "noise": not other,
            "archetypes": self.ratings is not None,
            "recommend": self.ratings is not None,
            "answers": self.arms is not None,
            "sigma": self.arms is not None,
            "loss": self.arms is not None,
            "particles": self.arms is not None,
        }
        for name, allowed in only.items():
            if not allowed and getattr(self, name) != fields[name].default:
                kind = "ratings" if self.ratings is not None else "arms" if self.arms is not None else "a table"
                raise InputError(name, f"an option of another game, beside {kind}", "the default")
        if self.answers == "bernoulli" and self.sigma != 1.0:
            raise InputError("sigma", "a noise, beside answers of 0 and 1", "answers gaussian")
        if any(b <= a for a, b in zip(self.radii, self.radii[1:], strict=False)) or any(r <= 0 for r in self.radii):
            raise InputError("radii", str(self.radii), "numbers above 0 that increase")
        if any(not 1 <= width <= 10_000 for width in self.hidden):
            raise InputError("hidden", str(self.hidden), "widths from 1 to 10000")
        return self
