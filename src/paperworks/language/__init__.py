"""Language models: loading them, the bundled one, token windows, calibration sets, perplexity and speed."""

from paperworks.language.choice import Question, choice_accuracy
from paperworks.language.choice_files import read_questions
from paperworks.language.harness import HarnessResult, evaluate_with_harness
from paperworks.language.models import bundled_model_path, bundled_text, check_length, load_model, load_tokenizer
from paperworks.language.perplexity import perplexity, window_losses
from paperworks.language.speed import Speed, SpeedRounds, measure_speed, speeds_in_turn
from paperworks.language.texts import read_texts
from paperworks.language.windows import Calibration, token_ids, token_windows

__all__ = [
    "Calibration",
    "HarnessResult",
    "Question",
    "Speed",
    "SpeedRounds",
    "bundled_model_path",
    "bundled_text",
    "check_length",
    "choice_accuracy",
    "evaluate_with_harness",
    "load_model",
    "load_tokenizer",
    "measure_speed",
    "perplexity",
    "read_questions",
    "read_texts",
    "speeds_in_turn",
    "token_ids",
    "token_windows",
    "window_losses",
]
