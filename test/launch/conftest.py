"""A recording stand-in for ROS's launch packages, put in place only where the real ones are missing."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

LAUNCH_FILE = Path(__file__).resolve().parents[2] / "launch" / "gld.launch.py"


@dataclass
class Recorded:
    """One launch action: what it was called with."""

    kind: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


class FakeLaunchConfiguration:
    """Resolves against a dictionary, as LaunchContext does with launch configurations."""

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: dict[str, str]) -> str:
        return context[self.name]


def _recorder(kind: str) -> Any:
    return lambda *args, **kwargs: Recorded(kind, args, kwargs)


def fake_modules() -> dict[str, ModuleType]:
    """launch and launch_ros with exactly the names the launch file may use; any other is an ImportError."""
    contents: dict[str, dict[str, Any]] = {
        "launch": {"LaunchDescription": lambda entities: list(entities)},
        "launch.actions": {
            name: _recorder(name)
            for name in ("DeclareLaunchArgument", "LogInfo", "OpaqueFunction", "SetEnvironmentVariable")
        },
        "launch.substitutions": {"LaunchConfiguration": FakeLaunchConfiguration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": _recorder("Node")},
    }
    modules = {}
    for name, attributes in contents.items():
        modules[name] = ModuleType(name)
        vars(modules[name]).update(attributes)
    return modules


def load_launch_file() -> ModuleType:
    """The launch file as a module."""
    spec = importlib.util.spec_from_file_location("gld_launch_file", LAUNCH_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class LaunchRun:
    """The launch file, run with argument values as launch would."""

    def __init__(self, module: ModuleType) -> None:
        entities = module.generate_launch_description()
        self.declared = {e.args[0]: e.kwargs for e in entities if e.kind == "DeclareLaunchArgument"}
        (self._opaque,) = [e for e in entities if e.kind == "OpaqueFunction"]

    def __call__(self, **values: str) -> list[Recorded]:
        assert set(values) <= set(self.declared)
        defaults = {name: str(kwargs["default_value"]) for name, kwargs in self.declared.items()}
        actions: list[Recorded] = self._opaque.kwargs["function"]({**defaults, **values})
        return actions


@pytest.fixture
def launch_run(monkeypatch: pytest.MonkeyPatch) -> LaunchRun:
    """The launch file over the stand-in."""
    if importlib.util.find_spec("launch_ros") is not None:
        pytest.skip("the real launch is installed: test_with_the_real_launch covers the file")
    for name, module in fake_modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return LaunchRun(load_launch_file())
