"""An exported file: its manifest, and sessions that answer requests with it. No torch."""
