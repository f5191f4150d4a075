"""Graph recommenders."""
