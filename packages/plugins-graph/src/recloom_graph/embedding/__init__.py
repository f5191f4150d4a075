"""Vectors of nodes, learnt from a graph alone."""
