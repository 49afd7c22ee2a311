"""With CKPTD_TEST_REQUIRE=s3,… the suites marked so must really have run: a skipped one fails the run.

Loaded by the Makefile (`-p tests.required_suites`), so that CI cannot become green by losing its servers.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

REQUIRED = tuple(filter(None, os.environ.get("CKPTD_TEST_REQUIRE", "").split(",")))
_passed: Counter[str] = Counter()
_skipped: list[str] = []


def pytest_itemcollected(item: pytest.Item) -> None:
    """By marker, not by report.keywords: those have the names of folders too, and a suite may be named like one."""
    item.user_properties += [("suite", suite) for suite in REQUIRED if item.get_closest_marker(suite)]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, suite in report.user_properties:
        if name != "suite":
            continue
        if report.skipped and not hasattr(report, "wasxfail"):
            _skipped.append(f"{suite}: {report.nodeid} was skipped")
        elif report.when == "call" and report.passed:
            _passed[suite] += 1


def _missing() -> list[str]:
    return _skipped + [f"{suite}: not one test of this suite passed" for suite in REQUIRED if not _passed[suite]]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    on_worker = hasattr(session.config, "workerinput")
    if not on_worker and not session.config.option.collectonly and _missing():
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _missing():
        terminalreporter.write_line(f"REQUIRED SUITE {line}", red=True)
