"""Procedural furnished rooms with exact colour, depth and poses, for training, tests and demos."""

from gld_ros.data.rooms.render import (
    RenderConfig,
    RenderedScene,
    render_cameras,
    render_depth,
    render_scene,
    render_view,
)

__all__ = ["RenderConfig", "RenderedScene", "render_cameras", "render_depth", "render_scene", "render_view"]
