"""`recloom summarize`: LLM-TRSR's summaries of histories."""
