"""Language models on this machine, by transformers."""
