"""The real node with the fake engine, as a process of its own."""

import sys

from fake_engine import FakeEngine

from gld_ros.ros.node import GldNode, main


class FakeNode(GldNode):
    def load(self, model, device):
        if model == "missing":
            from gld_ros.errors import GldError

            raise GldError("no weights at 'missing': give a path that exists")
        return FakeEngine()


if __name__ == "__main__":
    sys.exit(main(sys.argv, FakeNode))
