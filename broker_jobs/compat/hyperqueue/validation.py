"""What is raised for a wrong argument."""

from __future__ import annotations


class ValidationException(BaseException):
    """An argument of a task cannot be used."""
