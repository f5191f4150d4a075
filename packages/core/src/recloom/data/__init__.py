"""Reading, checking, splitting and inventing interaction data; nothing here needs torch to prepare a file."""
