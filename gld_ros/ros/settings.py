"""The parameter tables on a live node: declared with descriptions and ranges, checked when set, read by name."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from gld_ros.errors import GldError
from gld_ros.ros.interface import camera_names, check_names
from gld_ros.ros.parameters import CAMERA_PARAMS, NODE_PARAMS, VIRTUAL_PARAMS, Param


def descriptor(param: Param) -> ParameterDescriptor:
    """What `ros2 param describe` shows."""
    message = ParameterDescriptor(description=param.description, additional_constraints=param.range_text)
    if param.minimum is None or param.maximum is None or isinstance(param.default, bool):
        return message
    if isinstance(param.default, int):
        message.integer_range = [IntegerRange(from_value=int(param.minimum), to_value=int(param.maximum), step=0)]
    elif isinstance(param.default, float):
        message.floating_point_range = [FloatingPointRange(from_value=param.minimum, to_value=param.maximum, step=0.0)]
    return message


class Settings:
    """Declares every parameter on ``node`` and answers for their values.

    ``locked`` tells whether parameters that are not live may change now (they may not while the node is configured).
    """

    def __init__(self, node: Node) -> None:
        self.locked = False
        self._node = node
        self._rows: dict[str, Param] = {}
        # before the first declaration: values from files and arguments pass it too
        node.add_on_set_parameters_callback(self._check)
        for param in NODE_PARAMS:
            self._declare(param.name, param)
        self.declare_cameras()

    def declare_cameras(self) -> None:
        """Declare the parameters of all cameras that are named now; raises GldError on clashing names."""
        check_names(self.cameras, self.virtual_cameras)
        for names, params in ((self.cameras, CAMERA_PARAMS), (self.virtual_cameras, VIRTUAL_PARAMS)):
            for name in names:
                for param in params:
                    self._declare(f"{name}.{param.name}", param)

    def _declare(self, name: str, param: Param) -> None:
        self._rows[name] = param
        if not self._node.has_parameter(name):
            self._node.declare_parameter(name, param.default, descriptor(param))

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            row = self._rows.get(parameter.name)
            if row is None:  # of rclpy itself, like use_sim_time
                continue
            try:
                # a value of the wrong type is refused by rclpy, with its own words
                if parameter.type_ != Parameter.Type.NOT_SET:
                    row.check(parameter.value)
                if self.locked and not row.live:
                    raise GldError(
                        f"parameter {parameter.name} cannot change while the node is configured: run the lifecycle "
                        "transition cleanup first"
                    )
            except (GldError, TypeError, ValueError) as error:
                self._node.get_logger().error(str(error))
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def __getitem__(self, name: str) -> Any:
        """The present value; camera parameters as ``<camera>.<name>``."""
        return self._node.get_parameter(name).value

    @property
    def cameras(self) -> list[str]:
        """Names of the real cameras."""
        return camera_names(self["cameras"])

    @property
    def virtual_cameras(self) -> list[str]:
        """Names of the streamed cameras."""
        return camera_names(self["virtual_cameras"])
