"""What the README and the guides name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gld_ros.cli.main import COMMANDS
from gld_ros.ros.launch_plan import ARGUMENTS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#]+)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_launch_arguments_and_make_targets_exist(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"(?<![\w/])(\w+):=", text)) <= {argument.name for argument in ARGUMENTS}
    targets = set(re.findall(r"^(\w+):(?!=)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"^ +make (\w+)", text, flags=re.MULTILINE)) <= targets


def test_commands_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    listed = re.search(r"offline commands: (.+)\.", text)
    assert listed
    assert set(re.findall(r"`([\w-]+)`", listed.group(1))) <= set(COMMANDS)


def test_one_version_and_one_licence_everywhere() -> None:
    version = re.search(r'__version__ = "(.+)"', (ROOT / "gld_ros" / "__init__.py").read_text()).group(1)
    package = (ROOT / "package.xml").read_text()
    assert f"<version>{version}</version>" in package
    assert ">Apache-2.0</license>" in package
    assert 'license="Apache-2.0"' in (ROOT / "setup.py").read_text()
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
