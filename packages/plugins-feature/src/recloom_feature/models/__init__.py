"""Recommenders and losses that read texts."""
