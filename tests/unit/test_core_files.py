"""A crash leaves no image of the memory: people's keys are in it."""

from __future__ import annotations

import subprocess
import sys


def test_core_files_are_switched_off_for_good():
    code = (
        "import resource\n"
        "from cdp.system import write_no_core_files\n"
        "write_no_core_files()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(0, 0)"
