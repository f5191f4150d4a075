"""`recloom serve`: artefacts behind HTTP. Needs the extra `server`; no torch."""
