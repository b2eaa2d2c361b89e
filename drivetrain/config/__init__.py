"""Configs: typed defaults, YAML files with bases, overrides, and errors that say all that is wrong at once.

A config is a :class:`CfgNode`. Its keys come from dataclasses whose fields are made with :func:`option` and
:func:`section`; this package knows no key by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .files import load_yaml_with_base as load_yaml_with_base
    from .node import CfgNode as CfgNode
    from .node import KeyInfo as KeyInfo
    from .schema import option as option
    from .schema import section as section

__all__ = ["CfgNode", "KeyInfo", "load_yaml_with_base", "option", "section"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "CfgNode": "node",
        "KeyInfo": "node",
        "load_yaml_with_base": "files",
        "option": "schema",
        "section": "schema",
    },
)
