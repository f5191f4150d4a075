"""Asking language models: options, sessions, the runner, budgets, usage and plans."""
