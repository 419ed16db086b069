"""Says of each test of pytest how it went; a plugin: pytest -p pytest_said."""

import os

WAYS = {"passed": "pass", "failed": "fail", "skipped": "skip"}
# What pytest and the tests print goes where errors do; this is loaded before pytest catches any of it.
out = os.fdopen(os.dup(1), "w", closefd=False)
os.dup2(2, 1)


def pytest_runtest_logreport(report):
    # To come up and to tear down is worth a word only where it fails, or skips the test.
    if report.when == "call" or report.outcome != "passed":
        print(WAYS[report.outcome], report.nodeid.replace(" ", "_"), file=out, flush=True)
