"""`gld doctor`: every finding has a remedy, and faults are seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gld_ros.cli.doctor import CHECKS, examine
from gld_ros.cli.main import main
from gld_ros.errors import Status
from gld_ros.ros import checkup, shm
from gld_ros.ros.findings import ERROR, OK, WARNING, Finding

PROFILE = Path(__file__).resolve().parents[2] / "config" / "fastdds.xml"


def test_report_has_a_line_per_finding_and_a_remedy_for_each_fault(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    for subject in ("python", "torch", "clock", "disk", "weights"):
        assert any(line[9:].startswith(subject) for line in lines), subject
    for line, following in zip(lines, lines[1:], strict=False):
        if line.startswith((WARNING, ERROR)):
            assert following.strip().startswith("->")
    assert "gld check-numerics" in printed


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_check_breaks_on_this_machine(check) -> None:
    findings = list(examine(check))
    assert all("please report" not in finding.remedy for finding in findings)
    assert all(bool(finding.remedy) == (finding.level != OK) for finding in findings)


def test_a_check_that_breaks_is_one_error_line() -> None:
    def broken():
        yield Finding(OK, "a", "b")
        raise ValueError("boom")

    first, second = examine(broken)
    assert first.level == OK
    assert second.level == ERROR
    assert "boom" in second.text


@pytest.mark.parametrize(
    ("environment", "distro", "level"),
    [
        ({}, "jazzy", WARNING),
        ({"FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE)}, "jazzy", WARNING),  # Jazzy does not read that name
        ({"FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE)}, "kilted", OK),
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE)}, "jazzy", OK),
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": "/nowhere.xml"}, "jazzy", ERROR),
    ],
)
def test_profile(environment: dict[str, str], distro: str, level: str) -> None:
    assert [f.level for f in checkup._profile(environment, "rmw_fastrtps_cpp", distro)] == [level]


def test_profile_with_a_small_segment_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "p.xml"
    file.write_text(PROFILE.read_text().replace("33554432", "524288"))
    (finding,) = checkup._profile({"FASTRTPS_DEFAULT_PROFILES_FILE": str(file)}, "rmw_fastrtps_cpp", "jazzy")
    assert finding.level == WARNING
    assert "0.5 MiB" in finding.text


@pytest.mark.parametrize(("domain", "level"), [("0", OK), ("", OK), ("101", OK), ("102", WARNING), ("x", WARNING)])
def test_domain_id(domain: str, level: str) -> None:
    assert [f.level for f in checkup._network({"ROS_DOMAIN_ID": domain})] == [level]


@pytest.mark.parametrize(("size", "level"), [("212992", WARNING), ("2147483647", OK)])
def test_receive_buffer(tmp_path: Path, size: str, level: str) -> None:
    (tmp_path / "rmem").write_text(size)
    assert [f.level for f in checkup._receive_buffer(tmp_path / "rmem")] == [level]


def test_small_shared_memory_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "huge.xml").write_text("<a><segment_size>99999999999999</segment_size></a>")
    (finding,) = checkup.check_shared_memory(tmp_path, tmp_path / "huge.xml")
    assert finding.level == WARNING
    assert "--shm-size" in finding.remedy


def test_changed_interfaces_are_named(tmp_path: Path) -> None:
    for name in ("source", "installed"):
        (tmp_path / name / "msg").mkdir(parents=True)
        (tmp_path / name / "msg" / "Status.msg").write_text("uint8 code\n")
    assert checkup.stale_interfaces(tmp_path / "source", tmp_path / "installed") == []
    (tmp_path / "source" / "msg" / "Status.msg").write_text("uint16 code\n")
    assert checkup.stale_interfaces(tmp_path / "source", tmp_path / "installed") == ["msg/Status.msg"]


def test_type_hash_is_read_where_rosidl_writes_it(tmp_path: Path) -> None:
    share = tmp_path / "pkg"
    (share / "msg").mkdir(parents=True)
    assert checkup.type_hash(share, "msg/A") == ""
    entry = {"type_name": "pkg/msg/A", "hash_string": "RIHS01_x"}
    (share / "msg" / "A.json").write_text(json.dumps({"type_hashes": [entry]}))
    assert checkup.type_hash(share, "msg/A") == "RIHS01_x"


def test_only_unused_old_segments_are_leftovers(tmp_path: Path) -> None:
    for name in ("fastrtps_dead", "fastdds_held", "fastrtps_young", "other"):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - 100,) * 2)
    os.utime(tmp_path / "fastrtps_young")
    code = f"f = open({str(tmp_path / 'fastdds_held')!r}); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert shm.clean(tmp_path) == [tmp_path / "fastrtps_dead"]
        child.communicate("\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fastdds_held", "fastrtps_young", "other"]


def test_messages_in_this_installation_fit_the_code() -> None:
    pytest.importorskip("gld_ros.msg")
    assert {f.subject: f.level for f in checkup.check_messages()} == {"messages": OK, "tf2_msgs": OK}
    assert len(Status) == 13
