"""The specs that come with leti: single files, and families of specs that differ along axes.

A folder is a group of the catalog. `NAME.yaml` is a preset: a comment line that says what it is, then a spec, mostly
what it `extends` and what differs. `NAME.family.yaml` is a `Family`: every choice of one point per axis is a preset.
"""

from leti_ctl.presets.catalog import GROUPS, entries, lines, names, summary, text

__all__ = ["GROUPS", "entries", "lines", "names", "summary", "text"]
