"""`recloom demo`."""
