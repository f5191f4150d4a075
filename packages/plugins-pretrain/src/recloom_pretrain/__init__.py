"""Hook implementations; models are imported inside the hook bodies."""
