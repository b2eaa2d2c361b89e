"""Files of results, written as they come."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from drivetrain.errors import OutputError

__all__ = ["write_json", "write_whole"]


def write_whole(parts: Iterable[str], path: Path) -> None:
    """Write text, each part as it comes; the file appears under its name when it is complete.

    Raises:
        OutputError: the folder or file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"the results cannot be written to {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # there only when something went wrong


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write mappings, lists, texts and numbers as JSON; NaN, which JSON does not have, is null.

    Raises:
        OutputError: the folder or file cannot be written.
    """
    write_whole([json.dumps(_without_nan(content)), "\n"], path)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
