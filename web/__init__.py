"""The HTTP API: `uvicorn web:create --factory`.

A request writes rows and dispatches jobs, and is answered before the jobs run.
"""

from web.api import create

__all__ = ["create"]
