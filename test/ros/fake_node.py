"""The real node with the fake engine, as a process of its own."""

import logging
import sys

import rclpy
from fake_engine import FakeEngine

from gld_ros.ros.node import GldNode, run


class FakeNode(GldNode):
    def load(self, model, device):
        if model == "missing":
            from gld_ros.errors import GldError

            raise GldError("no weights at 'missing': give a path that exists")
        return FakeEngine()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    rclpy.init(args=sys.argv)
    try:
        run(FakeNode())
    finally:
        rclpy.try_shutdown()
