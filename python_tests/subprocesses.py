"""Python in a fresh process: instruction sets are chosen once in a process, and memory is measured from its start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def in_subprocess(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code among the tests, with these variables set."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def printed(code: str, **environment: str) -> str:
    """What the code prints, without the white space around it. It has to succeed."""
    done = in_subprocess(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
