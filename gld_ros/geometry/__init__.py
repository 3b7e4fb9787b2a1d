"""Pure geometry on numpy and torch: cameras, warps, plane sweep, clouds. No ROS, no network."""
