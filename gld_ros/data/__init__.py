"""Posed image sets: scene folders, nerfstudio, rosbag2, procedural rooms."""
