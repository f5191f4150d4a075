"""Properties of nodes and of whole graphs."""
