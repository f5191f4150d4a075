"""Proof that a file ranks as its run does."""
