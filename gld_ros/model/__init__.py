"""The GLD network in plain PyTorch; knows nothing of ROS, files of scenes, or its callers.

Import from the submodules: ``config`` (sizes), ``encoder``, ``dit``, ``sampler``, ``rgb_decoder``,
``depth_head``, ``camera_map``, ``statistics``, ``gld_model`` (all parts together), ``checkpoint`` (one file).
"""
