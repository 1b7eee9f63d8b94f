"""Is this machine, or this cluster, fit to run leti? One line per check: what was found and, where wrong, the remedy.

A check is a function from a `Subject` to findings. Checks run side by side, each with a time limit; what a check
raises becomes its finding, so that none can hide the others. They change nothing but for one probe object in the
store, which is deleted again.
"""

from leti_ctl.doctor.report import Check, Finding, Subject, examine

__all__ = ["Check", "Finding", "Subject", "examine"]
