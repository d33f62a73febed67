"""A report of a run: one page, ``report.html``, in its directory.

It is complete in itself: it asks nothing of any network and runs no program. Each part
is a module of ``panels``, found because it is there: a function ``panel`` from a
``Story`` to a ``Panel``, or to None where there is nothing to tell.
"""

from fedsciml.report.layout import page, unfinished, write
from fedsciml.report.story import Panel, Story

__all__ = ["Panel", "Story", "page", "unfinished", "write"]
