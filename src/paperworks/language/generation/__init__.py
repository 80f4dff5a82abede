"""Text generation: one protocol for local models, servers and functions; a cache; log-probabilities; records.

    generator = load_generator("folder-of-a-causal-model")       # or an address with a model's name, or a function
    cached = CachedGenerator(generator, "answers.sqlite")        # what was answered is never asked again
    cached.generate(["Once upon a time"], GenerationSettings(max_new_tokens=50, temperature=0.7, n=3))

protocol.py   Generator, GenerationSettings, SampleRequest, CallableGenerator, load_generator, generate_samples,
              image_message
local.py      a causal language model of transformers
endpoint.py   OpenAI-compatible servers
cache.py      answers on disk
log_probabilities.py  of given responses
records.py    instruction data in the usual formats
instruction_file.py   the same, read by place from files that may be larger than memory
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.language.generation.cache import CachedGenerator
    from paperworks.language.generation.endpoint import EndpointGenerator
    from paperworks.language.generation.instruction_file import InstructionFile
    from paperworks.language.generation.local import TransformersGenerator
    from paperworks.language.generation.log_probabilities import ResponseScore, score_responses
    from paperworks.language.generation.protocol import (
        CallableGenerator,
        GenerationSettings,
        Generator,
        ImageMessage,
        Message,
        Prompt,
        SampleRequest,
        generate_samples,
        image_message,
        load_generator,
    )
    from paperworks.language.generation.records import (
        InstructionRecord,
        read_instructions,
        write_instructions,
    )
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "CachedGenerator",
    "CallableGenerator",
    "EndpointGenerator",
    "GenerationSettings",
    "Generator",
    "ImageMessage",
    "InstructionFile",
    "InstructionRecord",
    "Message",
    "Prompt",
    "ResponseScore",
    "SampleRequest",
    "TransformersGenerator",
    "generate_samples",
    "image_message",
    "load_generator",
    "read_instructions",
    "score_responses",
    "write_instructions",
]
