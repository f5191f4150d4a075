"""`recloom profile`: descriptions of items and users by a language model."""
