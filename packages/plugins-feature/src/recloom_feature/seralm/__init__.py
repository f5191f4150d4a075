"""`recloom seralm texts|rounds`: which text of an item helps; a reconstruction."""
