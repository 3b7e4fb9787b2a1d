"""One training loop, a stage per model part."""
