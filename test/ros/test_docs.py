"""The written reference says what the code says."""

import re
from pathlib import Path

from gld_ros.errors import Status
from gld_ros.ros.interface import ENDPOINTS
from gld_ros.ros.reference import STATUS_HELP, markdown

ROOT = Path(__file__).resolve().parents[2]


def test_interface_page_is_up_to_date():
    made = markdown(ROOT)
    written = (ROOT / "docs" / "interface.md").read_text()
    assert written == made, "run: python -m gld_ros.ros.reference > docs/interface.md"


def test_every_status_is_explained():
    assert set(STATUS_HELP) == set(Status)


def test_status_numbers_are_those_of_the_message():
    lines = (ROOT / "msg" / "Status.msg").read_text().splitlines()
    numbers = dict(line.split()[1].split("=") for line in lines if line.startswith("uint8 ") and "=" in line)
    assert {name: int(number) for name, number in numbers.items()} == {s.name: int(s) for s in Status}


def test_the_rviz_page_names_real_topics():
    text = (ROOT / "docs" / "rviz.md").read_text()
    known = {endpoint.name for endpoint in ENDPOINTS}
    named = set(re.findall(r"`(/gld/[^`]*)`", text))
    assert len(named) > 5
    for topic in named:
        assert topic.replace("/gld/", "~/").replace("<name>", "<virtual camera>") in known, topic
