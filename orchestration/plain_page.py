"""Pages for people without an account: words and a form, no script, nothing kept by the browser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from xml.etree.ElementTree import Element, SubElement, tostring

from fastapi.responses import HTMLResponse

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}
_STYLE = """
body { font: 18px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 38rem; padding: 0 1rem; }
button, input { font: inherit; padding: .6rem 1.2rem; }
label { display: block; margin: 1rem 0; } label input { display: block; width: 100%; }
dt { font-weight: 600; margin-top: .6rem; } dd { margin: 0 0 0 1rem; white-space: pre-wrap; }
"""

Form = Callable[[Element], None]


def page(
    title: str, words: Iterable[str], *, form: Form | None = None, status: int = 200
) -> HTMLResponse:
    """Make a page of sentences; `form` adds what it likes to the form that posts to its address."""
    html = Element("html", lang="en")
    head = SubElement(html, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width")
    SubElement(head, "title").text = title
    SubElement(head, "style").text = _STYLE
    body = SubElement(html, "body")
    SubElement(body, "h1").text = title
    for sentence in words:
        SubElement(body, "p").text = sentence
    if form is not None:
        form(SubElement(body, "form", method="post"))
    text = "<!doctype html>\n" + tostring(html, encoding="unicode", method="html")
    return HTMLResponse(text, status_code=status, headers=_HEADERS)


def button(words: str) -> Form:
    """Make a form of one button."""

    def add(form: Element) -> None:
        SubElement(form, "button", type="submit").text = words

    return add
