"""The HTTP API: `uvicorn app.http:create --factory`. Requests become rows and jobs, and are answered before those
run.
"""

from app.http.api import create

__all__ = ["create"]
