"""The HTTP API: `uvicorn web:create --factory`. Requests become rows and jobs, and are answered
before those run.
"""

from web.api import create

__all__ = ["create"]
