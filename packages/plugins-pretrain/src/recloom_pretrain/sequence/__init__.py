"""Sequence models over item ids."""
