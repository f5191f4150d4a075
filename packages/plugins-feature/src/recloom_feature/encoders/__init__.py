"""Text encoders, and `recloom embed`."""
