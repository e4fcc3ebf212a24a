"""What a test starts can be ended, however the tests themselves were begun."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

# What a run in the tests' process does, and who would end a process that is started after it.
AFTER_A_RUN = """\
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
{mend}
from dagster._utils.interrupts import capture_interrupts
with capture_interrupts():
    pass
print(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)
"""


@pytest.mark.parametrize(
    ("mend", "ignored"), [("import tests.conftest", "False"), ("", "True")], ids=["tests", "Dagster"]
)
def test_tests_in_the_background_of_a_shell_do_not_pass_on_that_sigterm_is_ignored(mend: str, ignored: str) -> None:
    code = AFTER_A_RUN.format(mend=mend)
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [ignored]
