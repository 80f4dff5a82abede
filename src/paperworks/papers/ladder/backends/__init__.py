"""What proposes hypotheses from sentences or from metadata.

offline.py       word contrast between the top sentences and the rest; the default
generated.py     language models: a local folder of transformers, an OpenAI-compatible server, any generator
written.py       hypotheses written by the user
described.py     no captions: a vision-language model describes correctly classified samples
predicates.py    predicates on true metadata columns
"""
