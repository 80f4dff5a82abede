"""One module per part of the page; each has a ``router``. ``app.VIEWS`` names them."""
