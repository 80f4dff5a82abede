"""EntityGrid-QA: objects placed inside slices, across cuts, and where all slices meet; questions; scores.

entities.py    what is placed: digits, drawn glyphs, or the user's folder of images by category
positions.py   the nine positions, their names, and which of them the cuts run through
generation.py  images, questions and records, in memory or in a folder
parsing.py     an answer in words as one of the choices
evaluation.py  accuracy by task and position, discrepancies with intervals
answerers.py   who answers: the record itself, templates, chance, a pipeline, an endpoint, our model
"""
