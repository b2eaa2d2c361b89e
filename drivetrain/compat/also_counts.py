"""Classes under detectron2's names, of which instances of this package's own classes count as instances."""

from __future__ import annotations

__all__ = ["AlsoCounts"]


class AlsoCounts(type):
    """Lets ``isinstance`` find instances of other classes too: those in ``also_counts`` of the class itself.

    The models here are made of classes of their own, which scripts look for under detectron2's names.
    """

    def __instancecheck__(cls, instance: object) -> bool:
        """Whether it is of the class, or of one of the others."""
        return type.__instancecheck__(cls, instance) or isinstance(instance, vars(cls).get("also_counts", ()))
