"""The API against its OpenAPI document, by schemathesis: whatever is asked, the answer is one that
the document knows.

The examples are few and always the same, so that it is fast and says the same each time.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from web import access
from web.access import new_token

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)


def test_whatever_is_asked_the_answer_is_in_the_document(shop, server):
    shop.set(APP_REQUESTS_A_MINUTE="100000")
    shop.patch.setattr(access, "LOGINS_A_MINUTE", 100_000)
    token, _ = new_token(shop.user("Root", admin=True).id, "t", ["*"], 1)
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [
        program,
        "run",
        f"{server}/openapi.json",
        "--header",
        f"Authorization: Bearer {token}",
        "--checks",
        CHECKS,
        "--include-method",
        "POST",
        "--phases",
        "fuzzing",
        "--max-examples",
        "1",
        "--seed",
        "7",
        "--generation-database",
        "none",
        "--suppress-health-check",
        "all",
        "--no-color",
        "--workers",
        "2",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=shop.folder, check=False)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout
