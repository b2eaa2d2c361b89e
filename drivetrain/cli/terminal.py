"""Text for the terminal that may come out of files: it must not move the cursor, change colours or hide a line."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str, keep: str = "") -> str:
    """The text with everything unprintable escaped: controls, marks that reorder text, line breaks.

    Args:
        text: any text.
        keep: characters that stay, such as a newline.
    """
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)
