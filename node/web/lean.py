"""Modules without their comments and indentation: a third less to fetch, every line in its place.

What is served is the source as written, line by line, so that an error names the right line; only
whole-line comments and the whitespace in front of code are left out.
"""

from __future__ import annotations


def lean(source: str) -> str:
    """Leave out comments that have their line to themselves, and indentation."""
    lines: list[str] = []
    is_comment = False
    for line in source.split("\n"):
        text = line.strip()
        if is_comment or text.startswith("/*"):
            is_comment = "*/" not in text
            lines.append(text.partition("*/")[2].strip() if not is_comment else "")
        elif text.startswith("//"):
            lines.append("")
        else:
            lines.append(text)
    return "\n".join(lines)
