"""`recloom simulate`: preferences between cold items by a language model."""
