"""A rosbag2 (mcap or sqlite3) read with the optional package rosbags: topics, headers, single messages."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gld_ros.errors import GldError, SceneError
from gld_ros.geometry.transform_tree import NS


@dataclass(frozen=True)
class Entry:
    """Where a message with a header is in a bag: when it was recorded, and its stamp (never 0) and frame."""

    recorded_ns: int
    stamp_ns: int
    frame_id: str


class BagFile:
    """Messages of a bag. Raises SceneError on anything that cannot be read; nothing stays open between calls.

    Messages are decoded by the types of the current ROS 2 releases, never by definitions that the bag brings.
    """

    def __init__(self, path: Path) -> None:
        try:
            from rosbags.rosbag2 import Reader
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise SceneError("bags are read with the package rosbags: pip install rosbags") from error
        self.path = path
        self._make_reader: Callable[[Path], Any] = Reader
        self._types = get_typestore(Stores.ROS2_JAZZY)
        with self._open() as reader:
            self.topics: dict[str, str] = {c.topic: c.msgtype for c in reader.connections if c.msgcount > 0}

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            with self._make_reader(self.path) as reader:
                yield reader
        except GldError:
            raise
        except Exception as error:  # rosbags has an exception type per storage, and passes on those below it
            raise SceneError(f"{self.path} cannot be read as a rosbag2: {error or type(error).__name__}") from error

    def of_type(self, *kinds: str) -> list[str]:
        """Topics whose type is one of ``kinds`` ("sensor_msgs/msg/Image"), sorted."""
        return sorted(topic for topic, kind in self.topics.items() if kind in kinds)

    def decode(self, raw: bytes, topic: str) -> Any:
        """The message in serialised form ``raw`` of ``topic``."""
        try:
            return self._types.deserialize_cdr(raw, self.topics[topic])
        except Exception as error:  # rosbags passes on whatever its generated code meets
            raise SceneError(f"a message of {topic} in {self.path} cannot be decoded: {error}") from error

    def scan(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        """Topic, time of recording and serialised message of all messages of ``topics``, in recorded order."""
        with self._open() as reader:
            chosen = [c for c in reader.connections if c.topic in topics]
            if not chosen:
                return
            total = sum(c.msgcount for c in chosen)
            for connection, recorded_ns, raw in tqdm(
                reader.messages(chosen), total=total, desc="reading bag", unit="msg", leave=False, disable=None
            ):
                yield connection.topic, recorded_ns, raw

    def first(self, topic: str) -> Any:
        """The first message of a topic."""
        with self._open() as reader:
            for _, _, raw in reader.messages([c for c in reader.connections if c.topic == topic]):
                return self.decode(raw, topic)
        raise SceneError(f"{self.path} has no message of {topic}")

    def read(self, topic: str, entry: Entry) -> Any:
        """One message again."""
        with self._open() as reader:
            connections = [c for c in reader.connections if c.topic == topic]
            for _, recorded_ns, raw in reader.messages(connections, entry.recorded_ns, entry.recorded_ns + 1):
                if entry_of(recorded_ns, raw) == entry:
                    return self.decode(raw, topic)
        raise SceneError(f"{self.path} has lost the message of {topic} recorded at {entry.recorded_ns} ns")


def entry_of(recorded_ns: int, raw: bytes) -> Entry:
    """Stamp and frame of a serialised message (CDR) that starts with a std_msgs/Header, without decoding the rest.

    An empty stamp is replaced by the time of recording. Raises SceneError on a truncated message.
    """
    try:
        order = "<" if raw[1] & 1 else ">"
        sec, nanosec, length = struct.unpack_from(f"{order}iII", raw, 4)
        frame_id = bytes(raw[16 : 16 + length]).rstrip(b"\0").decode()
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise SceneError(f"message recorded at {recorded_ns} ns has no readable header: {error}") from error
    return Entry(recorded_ns, sec * NS + nanosec or recorded_ns, frame_id.lstrip("/"))
