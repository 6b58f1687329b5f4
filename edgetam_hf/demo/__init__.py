"""The server behind `edgetam demo`: the page, and sessions of Python that it talks to."""
