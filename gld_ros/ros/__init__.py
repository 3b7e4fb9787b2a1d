"""The ROS 2 side: node, keyframes, TF, conversions, replay. The only room that imports rclpy."""
