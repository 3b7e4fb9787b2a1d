"""Virtual cameras for robots: synthesise the view of any pose from a few posed images."""

__version__ = "0.1.0"
