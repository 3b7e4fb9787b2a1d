"""The lines of ``gld doctor``'s report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``remedy`` says what to do unless all is well."""

    level: str
    subject: str
    text: str
    remedy: str = ""


Findings = Iterator[Finding]
