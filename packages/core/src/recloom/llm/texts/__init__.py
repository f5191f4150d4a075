"""Texts of items and users: prompts' lines, histories, vectors, tables that a language model wrote."""
