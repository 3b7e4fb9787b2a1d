"""An external client over Cyclone DDS, an implementation unrelated to the node's. Runs in an environment of its own.

Types are made from the repository's .msg and .srv files and rosbags' copies of the standard ones: nothing here comes
from ROS. Subscribes to the topics, calls the service, prints one line of JSON. Usage: cyclone_client.py REPOSITORY
"""

import json
import os
import sys
import time
from pathlib import Path

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import make_idl_struct, types
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

CONFIG = """<CycloneDDS><Domain><General>
<Interfaces><NetworkInterface name="lo"/></Interfaces><AllowMulticast>false</AllowMulticast>
</General><Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>40</MaxAutoParticipantIndex>
<Peers><Peer address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>"""
BASE = {"bool": bool, "string": str, "float32": types.float32, "float64": types.float64}
BASE |= {f"{sign}int{bits}": getattr(types, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}
WAIT_S = 20.0


def load_types(repository):
    """rosbags' standard types and ours; a service's halves count as messages."""
    found = {}
    for name in ("Status", "SynthesizedView"):
        found |= get_types_from_msg((repository / f"msg/{name}.msg").read_text(), f"gld_ros/msg/{name}")
    halves = (repository / "srv/SynthesizeView.srv").read_text().split("\n---\n")
    for half, text in zip(("Request", "Response"), halves, strict=True):
        found |= get_types_from_msg(text, f"gld_ros/msg/SynthesizeView_{half}")
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(found)
    return store


class IdlTypes:
    """Cyclone classes of ROS type names."""

    def __init__(self, store):
        self._store, self._made = store, {}

    def __getitem__(self, name):
        if name not in self._made:
            package, _, short = name.split("/")
            group = "srv" if short.endswith(("_Request", "_Response")) else "msg"
            fields = {key: self._field(kind, detail) for key, (kind, detail) in self._store.fielddefs[name][1]}
            self._made[name] = make_idl_struct(short, f"{package}::{group}::dds_::{short}_", fields)
        return self._made[name]

    def _field(self, kind, detail):
        if kind == Nodetype.BASE:
            return BASE[detail[0] if isinstance(detail, tuple) else detail]
        if kind == Nodetype.NAME:
            return self[detail]
        inner, length = self._field(*detail[0]), detail[1]
        return types.array[inner, length] if kind == Nodetype.ARRAY else types.sequence[inner]

    def zero(self, name):
        """A message with all fields at zero or empty."""
        values = {}
        for key, (kind, detail) in self._store.fielddefs[name][1]:
            if kind == Nodetype.BASE:
                base = detail[0] if isinstance(detail, tuple) else detail
                values[key] = {"string": "", "bool": False}.get(base, 0.0 if base.startswith("float") else 0)
            elif kind == Nodetype.NAME:
                values[key] = self.zero(detail)
            else:
                values[key] = [0] * detail[1] if kind == Nodetype.ARRAY else []
        return self[name](**values)


def qos(reliable):
    kind = Policy.Reliability.Reliable(duration(seconds=1)) if reliable else Policy.Reliability.BestEffort
    return Qos(kind, Policy.History.KeepLast(10), Policy.DataRepresentation(use_cdrv0_representation=True))


def first(reader):
    """The first sample, within the time allowed."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for sample in reader.take(N=1):
            return sample
        time.sleep(0.01)
    raise TimeoutError(f"nothing on {reader.topic.name}")


def matched(entity, count):
    deadline = time.monotonic() + WAIT_S
    while not count(entity):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no match on {entity.topic.name}")
        time.sleep(0.01)


def main():
    idl = IdlTypes(load_types(Path(sys.argv[1])))
    os.environ["CYCLONEDDS_URI"] = CONFIG  # read by the first participant
    participant = DomainParticipant(int(os.environ["ROS_DOMAIN_ID"]))

    def reader(topic, name, reliable):
        return DataReader(participant, Topic(participant, topic, idl[name], qos=qos(reliable)), qos=qos(reliable))

    image = first(reader("rt/gld/top/image_rect", "sensor_msgs/msg/Image", False))
    cloud = first(reader("rt/gld/top/points_observed", "sensor_msgs/msg/PointCloud2", True))
    replies = reader("rr/gld/synthesizeReply", "gld_ros/msg/SynthesizeView_Response", True)
    kind = idl["gld_ros/msg/SynthesizeView_Request"]
    writer = DataWriter(participant, Topic(participant, "rq/gld/synthesizeRequest", kind, qos=qos(True)), qos=qos(True))
    matched(writer, lambda w: w.get_matched_subscriptions())
    matched(replies, lambda r: r.get_matched_publications())
    request = idl.zero("gld_ros/msg/SynthesizeView_Request")
    pose = idl.zero("geometry_msgs/msg/PoseStamped")
    pose.header.frame_id = "odom"
    o = pose.pose.orientation
    o.x, o.y, o.z, o.w = -0.5, 0.5, -0.5, 0.5
    request.poses = [pose]
    # replies beyond about 64 kB are fragmented, and Cyclone does not deliver them
    request.camera.width, request.camera.height = 64, 48
    request.camera.k = [50.0, 0, 31.5, 0, 50.0, 23.5, 0, 0, 1]
    request.seed, request.clouds = 5, True
    writer.write(request)
    reply = first(replies)
    print(
        json.dumps(
            {
                "stream": [image.width, image.height, image.encoding, image.header.frame_id, len(image.data)],
                "cloud": [cloud.width, cloud.header.frame_id, [f.name for f in cloud.fields]],
                "status": [reply.status.code, reply.status.message],
                "seed": reply.seed,
                "view": [reply.views[0].image.width, reply.views[0].image.height, len(reply.views[0].image.data)],
            }
        )
    )


if __name__ == "__main__":
    main()
