"""The application's background work, one module a subject. `app` is the Celery app: `celery -A
tasks worker`.
"""

import pkgutil
import sys
from pathlib import Path

from app import settings
from relevo.app import create_app
from relevo.errors import SettingsError
from relevo.exit import EXIT_MISUSED

# `celery -A` has the working directory on the path only while it loads this module. celeryconfig,
# app.models and imports inside of tasks must be found later, too.
sys.path.append(str(Path(__file__).resolve().parent.parent))

try:
    settings.application()
    app = create_app(
        "tasks",
        settings.engine(),
        include=[f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)],
    )
except SettingsError as error:
    # One line and not a traceback, whichever program imports this module.
    sys.stderr.write(f"Error: {error}\n")
    raise SystemExit(EXIT_MISUSED) from error
app.config_from_object("celeryconfig")
