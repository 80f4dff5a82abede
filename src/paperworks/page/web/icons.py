"""The icons: strokes on 24 by 24, drawn once at the start. They stand beside words or in a button with a label."""

from __future__ import annotations

from markupsafe import Markup

STROKES = {
    "search": '<circle cx="11" cy="11" r="7"/><path d="m20 20-4-4"/>',
    "up": '<path d="M12 5 5 13h4v6h6v-6h4z"/>',
    "bookmark": '<path d="M6 4h12v17l-6-4.5L6 21z"/>',
    "stack": '<path d="M12 3 3 8l9 5 9-5zM3 12l9 5 9-5M3 16l9 5 9-5"/>',
    "talk": '<path d="M4 5h16v11H10l-5 4v-4H4z"/>',
    "run": '<path d="M7 4v16l13-8z"/>',
    "tag": '<path d="M4 4h8l8 8-8 8-8-8z"/><circle cx="8.5" cy="8.5" r="1.2"/>',
    "person": '<circle cx="12" cy="8" r="4"/><path d="M4 21c1-5 4-7 8-7s7 2 8 7"/>',
    "leave": '<path d="M14 4H5v16h9M10 12h10m-4-4 4 4-4 4"/>',
    "theme": '<circle cx="12" cy="12" r="8"/><path class="solid" d="M12 4a8 8 0 0 1 0 16z"/>',
    "left": '<path d="m15 5-7 7 7 7"/>',
    "right": '<path d="m9 5 7 7-7 7"/>',
    "check": '<path d="m5 13 4.5 4.5L19 7"/>',
    "cross": '<path d="m6 6 12 12M18 6 6 18"/>',
    "dash": '<path d="M6 12h12"/>',
    "out": '<path d="M14 4h6v6m0-6L10 14M10 5H5v14h14v-5"/>',
    "feed": '<path d="M5 11a8 8 0 0 1 8 8M5 5a14 14 0 0 1 14 14"/><circle cx="6" cy="18" r="1"/>',
    "code": '<path d="m8 7-5 5 5 5M16 7l5 5-5 5"/>',
    "filter": '<path d="M4 6h16M7 12h10M10 18h4"/>',
}
ICONS = {
    name: Markup(f'<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">{strokes}</svg>')
    for name, strokes in STROKES.items()
}
