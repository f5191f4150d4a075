"""Texts of nodes by language models: `recloom graph profile|refine|encode`."""
