"""The ``gld`` command: thin parsers over library calls."""
