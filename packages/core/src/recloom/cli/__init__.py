"""The `recloom` command."""
