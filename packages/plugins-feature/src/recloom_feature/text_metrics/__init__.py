"""`recloom text-metrics`: metrics of generated texts."""
