"""Counts images and does nothing else, as a process of its own: what this machine lets any subscriber receive."""

import contextlib
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import UInt32


def main(topic: str) -> None:
    rclpy.init()
    node = rclpy.create_node("plain_subscriber")
    heard = node.create_publisher(UInt32, "/plain_subscriber/heard", QoSProfile(depth=1))
    count = 0

    def on_image(message: Image) -> None:
        nonlocal count
        count += 1

    node.create_subscription(Image, topic, on_image, qos_profile_sensor_data)
    node.create_timer(0.2, lambda: heard.publish(UInt32(data=count)))
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


if __name__ == "__main__":
    main(sys.argv[1])
