"""The text that a method works on and the text that its result is measured on: never the same, and of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paperworks.errors import InputError
from paperworks.language import bundled_text, read_texts
from paperworks.language.windows import JOIN, token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHARACTERS = 32
"""More than a token has on average, in any language: so long a text need not be counted."""
HELD_OUT = 0.1
"""Share of the user's text that is kept for evaluation where no other text is given."""


@dataclass(frozen=True)
class TextParts:
    """Texts to work on and to measure on.

    Attributes
    ----------
    texts, held_out : the two.
    measured_on : what ``held_out`` is, for a headline: "the last tenth of notes.txt".
    """

    texts: list[str]
    held_out: list[str]
    measured_on: str
    fields: tuple[str, str] = ("text", "evaluation")

    def check(self, tokenizer: PreTrainedTokenizerBase, length: int) -> None:
        """Raise InputError naming the option whose text has no ``length`` tokens: before any work."""
        for field, texts in zip(self.fields, (self.texts, self.held_out), strict=True):
            start = JOIN.join(texts)[: CHARACTERS * length]
            n = len(token_ids(tokenizer, start))
            if n < length and len(start) < CHARACTERS * length:
                said = "" if texts is self.texts else f" in {self.measured_on}"
                raise InputError(field, f"{n} tokens{said}", f"at least {length}, a sequence")


def text_parts(
    text: Path | None,
    evaluation: Path | None,
    *,
    field: str = "text",
    select: Callable[[str], str] = str,
    bundled: str = "bundled English",
) -> TextParts:
    """Read the user's files, or the bundled text where there are none.

    Of a text without an ``evaluation`` beside it the last tenth is held out.

    Parameters
    ----------
    field : the option that names ``text``, for messages.
    select : which part of the bundled text is used; ``bundled`` says it in words.
    """
    fields = (field, field if evaluation is None and text is not None else "evaluation")
    if text is None:
        texts, held_out, measured_on = [select(bundled_text("train"))], [select(bundled_text("test"))], bundled
    else:
        whole = JOIN.join(read_texts(text, field))
        cut = len(whole) - max(1, int(HELD_OUT * len(whole)))
        texts, held_out, measured_on = [whole[:cut]], [whole[cut:]], f"the last tenth of {text.name}"
    if evaluation is not None:
        texts = [select(bundled_text("train"))] if text is None else read_texts(text, field)
        held_out, measured_on = read_texts(evaluation, "evaluation"), evaluation.name
    return TextParts(texts, held_out, measured_on, fields)
