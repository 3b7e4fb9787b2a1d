"""The lifecycle node ``gld``: loads the engine on configure, listens on activate, frees everything on cleanup."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterUninitializedException,
)
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from gld_ros.errors import GldError
from gld_ros.ros.core import Core
from gld_ros.ros.diagnostics import Reporter, keyframe_markers
from gld_ros.ros.inputs import Inputs
from gld_ros.ros.requests import Requests
from gld_ros.ros.servers import Servers
from gld_ros.ros.settings import Settings
from gld_ros.ros.spin import spin
from gld_ros.ros.streaming import VirtualCamera, output_qos
from gld_ros.ros.transforms import JUMP_BACK_S, static_publisher, transform_message
from gld_ros.synthesis.types import Engine

SPARE_THREADS = 4  # for images, TF, timers and refusals while every place is taken by a waiting request
SIGNAL_POLL_S = 0.1
END_S = 2.0  # for callbacks to return at the end
SWITCH_S = 0.001  # Python's default lets every busy thread delay an image by 5 ms


class GldNode(LifecycleNode):
    """Virtual cameras as a ROS 2 node; ``load`` makes the engine from model name and device."""

    def __init__(self, **node_options: object) -> None:
        super().__init__("gld", **node_options)  # type: ignore[arg-type]
        self.settings = Settings(self)
        self.core: Core | None = None
        self._inputs: Inputs | None = None
        self._requests: Requests | None = None
        self._streams: list[VirtualCamera] = []
        self.stuck = False  # an engine thread outlived its time
        self._static: Any = None
        self._state = "unconfigured"
        self._why = "the node is unconfigured: configure and activate it (or start it with autostart:=true)"
        self._reporter = Reporter(self.get_name())
        self._group = MutuallyExclusiveCallbackGroup()
        # simulated time may stand still or jump: what the node does by itself goes by real time
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        qos = output_qos(self.settings)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._markers = self.create_publisher(MarkerArray, "~/keyframes", qos)
        self.create_timer(
            1.0 / self.settings["diagnostics_rate"], self._report, callback_group=self._group, clock=self.steady
        )
        self._servers = Servers(self, self._active, lambda: float(self.settings["service_time_limit"]))
        self._jump = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(seconds=-JUMP_BACK_S), on_clock_change=False),
            post_callback=self._on_clock_jump,
        )

    @property
    def threads(self) -> int:
        """Executor threads needed so that waiting requests never keep an image waiting."""
        return int(self.settings["queue_size"]) + 1 + SPARE_THREADS

    def load(self, model: str, device: str) -> Engine:
        """The engine; tests put their own here."""
        from gld_ros.model.accelerate import Acceleration
        from gld_ros.synthesis.engine import load_engine

        return load_engine(model, device, Acceleration(self.settings["compile"], self.settings["precision"]))

    def _active(self) -> Requests | str:
        return self._requests if self._requests is not None else self._why

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the engine, make publishers, listen to TF."""
        try:
            self.settings.declare_cameras()
            engine = self.load(self.settings["model"], self.settings["device"])
            self.core = Core(self, self.settings, engine)
            self._streams = [VirtualCamera(self, self.settings, name) for name in self.settings.virtual_cameras]
        except Exception as error:  # every reason must reach the user, and none may end the process
            self._why = f"the node could not be configured: {error}"
            self.get_logger().error(self._why)
            if not isinstance(error, GldError):
                logging.getLogger(__name__).exception("configure failed")
            self._free()
            return TransitionCallbackReturn.FAILURE
        self._broadcast_frames()
        self._set("inactive", "the node is inactive: activate it")
        self.settings.locked = True
        self.get_logger().info(f"model {engine.name} loaded")
        return TransitionCallbackReturn.SUCCESS

    def _broadcast_frames(self) -> None:
        """The optical frames of virtual cameras that are given in body axes, beside those axes."""
        frames = [
            transform_message(s.frame, s.optical_frame, s.frame_from_optical, 0)
            for s in (stream.settings for stream in self._streams)
            if s.body_axes
        ]
        if frames:
            if self._static is None:
                self._static = static_publisher(self)
            self._static.publish(TFMessage(transforms=frames))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras and serve."""
        assert self.core is not None
        self.core.reread()
        self._inputs = Inputs(self.core)
        for stream in self._streams:
            stream.start(self.core, self.steady)
        self._requests = Requests(self.core)
        self._set("active", "")
        cameras = ", ".join(self.settings.cameras) or "none"
        self.get_logger().info(f"active: cameras {cameras}; fixed frame {self.core.fixed_frame}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening and serving; the engine stays."""
        self._pause()
        self._set("inactive", "the node is inactive: activate it")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free engine, keyframes and topics."""
        self._free()
        self._set("unconfigured", "the node is unconfigured: configure and activate it")
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from any state."""
        self._free()
        self._set("finalized", "the node is shut down: start it again")
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in a transition: back to unconfigured."""
        self._free()
        self._set("unconfigured", "a transition failed (see the log): configure the node again")
        return TransitionCallbackReturn.SUCCESS

    def _set(self, state: str, why: str) -> None:
        self._state, self._why = state, why

    def _pause(self) -> None:
        self._requests = None
        for stream in self._streams:
            stream.stop()
        if self._inputs is not None:
            self._inputs.close()
            self._inputs = None
        if self.core is not None:
            self.core.worker.cancel_all()
            self.core.store.clear()

    def _free(self) -> None:
        self._pause()
        for stream in self._streams:
            stream.close()
        self._streams = []
        if self.core is not None and not self.core.close():
            self.get_logger().warning("the engine did not stop in time; its memory is freed when it does")
            self.stuck = True
        self.core = None
        self.settings.locked = False
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _on_clock_jump(self, jump: object) -> None:
        if self.core is not None:
            self.core.time_jumped("the node's clock went back")

    def _report(self) -> None:
        core, inputs = self.core, self._inputs
        now = self.get_clock().now().nanoseconds
        cameras = inputs.cameras if inputs is not None else []
        self._diagnostics.publish(self._reporter.array(self._state, now, core, cameras, self._streams))
        if core is not None and inputs is not None:
            core.reread()
            core.store.expire(now)
            inputs.watch()
            if self._markers.get_subscription_count() > 0:
                self._markers.publish(keyframe_markers(core))

    def autostart(self) -> None:
        """Configure and activate; a failure leaves the node unconfigured with the reason in its log and replies."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        else:
            self.get_logger().error(
                "the node stays up unconfigured and answers every request NOT_ACTIVE: set the parameter and configure "
                "and activate it, or stop it and start it with another value"
            )

    def end(self) -> None:
        """Free everything; requests and goals that wait end with NOT_ACTIVE."""
        self._why = "the node is shutting down: start it again"
        self._free()

    def close(self) -> None:
        """Take service and action from the graph, once their last answers are sent."""
        self._free()  # what a transition that ran on while the node ended has made
        self._servers.close()


def on_signals() -> list[int]:
    """Note SIGINT and SIGTERM in the list returned, instead of ending at once: goals and requests get their answer."""
    caught: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: caught.append(number))
    return caught


def run(node: GldNode, caught: list[int]) -> None:
    """Spin a node on enough threads until a signal is caught or the context is shut down."""
    executor = MultiThreadedExecutor(num_threads=node.threads)
    executor.add_node(node)
    if node.settings["autostart"]:
        group = MutuallyExclusiveCallbackGroup()
        once = node.create_timer(0.0, lambda: (once.cancel(), node.autostart()), group, node.steady)
    spinning = threading.Thread(target=spin, args=(executor,), name="gld_spin", daemon=True)
    spinning.start()
    while spinning.is_alive() and not caught:
        spinning.join(SIGNAL_POLL_S)
    node.end()
    executor.shutdown(timeout_sec=END_S)
    spinning.join(END_S)
    # the threads that send the last answers must not outlive the context; rclpy before Kilted does not wait for them
    executor._executor.shutdown(wait=True)
    node.close()


def main(args: Sequence[str] | None = None, make: Callable[[], GldNode] = GldNode) -> int:
    """Entry point of ``gld_node``; 2 when its parameters cannot be used."""
    sys.setswitchinterval(SWITCH_S)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # rclpy's own handlers would take the context away from answers that are still to be sent
    rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
    caught = on_signals()
    try:
        node = make()
    except (
        GldError,
        InvalidParameterTypeException,
        InvalidParameterValueException,
        ParameterUninitializedException,
    ) as error:
        print(f"gld_node: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    try:
        run(node, caught)
    finally:
        rclpy.try_shutdown()
    if node.stuck:  # its compute threads would abort the interpreter's own end
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
