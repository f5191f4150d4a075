"""Losses between views of a graph, and between graph and texts."""
