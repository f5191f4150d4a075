"""PageRank and personalised PageRank."""
