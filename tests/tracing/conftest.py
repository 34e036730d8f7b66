"""The front doors of the tests of the API."""

from tests.api.conftest import front, start

__all__ = ["front", "start"]
