"""Graphs and their files, products and drawings."""
