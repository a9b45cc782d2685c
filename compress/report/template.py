"""A template as one HTML page that needs no network."""

import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from compress.report import charts


def render(template: str, scripts: Sequence[str], **values: Any) -> str:
    """Return the page of a template of compress/report, with its style, its scripts and Vega in it.

    The template's policy lets the page's own two scripts run and nothing else, and nothing be
    fetched.

    Args:
        scripts: files of compress/report/assets, one after another in one module.
    """
    environment = Environment(
        loader=PackageLoader("compress.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    texts = [charts.javascript(), "".join(map(_own, scripts))]
    return environment.get_template(template).render(
        style=Markup(_own("page.css")),
        scripts=[Markup(text) for text in texts],  # ours: nothing of a result is in them
        hashes=" ".join(f"'sha256-{_hash(text)}'" for text in texts),
        **values,
    )


def as_json(value: Any) -> Markup:
    """Return JSON for the inside of a script element: no name in it can close the element."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))


def _breakable(text: str) -> Markup:
    """Escape a name, and let it go on in the next line after an underscore."""
    return escape(text).replace("_", Markup("_<wbr>"))


def _own(name: str) -> str:
    return (files("compress.report") / "assets" / name).read_text("utf-8")


def _hash(script: str) -> str:
    return b64encode(sha256(script.encode()).digest()).decode()
