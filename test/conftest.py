"""What all tests share: a DDS network of their own, and no silent skips where ROS is promised."""

from __future__ import annotations

import os
import re
from collections.abc import Generator

import pytest

# Set before anything imports rclpy: never a live robot's network, and no other test run's domain.
# 101 is the largest domain id whose ports stay below Linux's ephemeral range.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 101)
if os.environ.get("ROS_DISTRO") == "humble":
    os.environ["ROS_LOCALHOST_ONLY"] = "1"
else:
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

REQUIRE_ROS = os.environ.get("GLD_REQUIRE_ROS", "0") not in ("", "0")  # `make test` sets it where wheels exist
ROS_MODULE = re.compile(
    r"(import|module|named|no) '?(rclpy|\w+_msgs|gld_ros\.(msg|srv|action)|cyclonedds|rosbags)\b|needs ROS"
)


def _fail_if_skipped_for_ros(report: pytest.TestReport | pytest.CollectReport) -> None:
    if REQUIRE_ROS and report.skipped and ROS_MODULE.search(str(report.longrepr)):
        report.outcome = "failed"
        report.longrepr = f"skipped although GLD_REQUIRE_ROS is set: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test skipped for want of ROS fails where ROS is required."""
    report = yield
    _fail_if_skipped_for_ros(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file skipped by importorskip."""
    report = yield
    _fail_if_skipped_for_ros(report)
    return report
