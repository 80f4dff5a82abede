"""The web server of the page: FastAPI, Jinja2 templates, htmx where the browser runs scripts.

app.py         create_app(settings): the routers, the middleware, what is loaded once
deps.py        what every view uses: Page, render, current_user, checked_form
addresses.py   where things are: the path of a paper, of a run; safe redirects
security.py    host check, origin check, size of bodies, headers, tokens of forms
assets.py      static files under names that hold their digest, compressed once
errors.py      error pages and the API's errors
views/         one module per part of the page; each has a ``router``
templates/     one folder per view; base.html is the frame of all
static/        style.css, page.js, htmx
"""
