"""``gld bench``: what a view costs with each preset on this machine, and what it is worth, side by side."""
