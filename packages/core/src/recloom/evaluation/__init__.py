"""What is done with the numbers of a test: intervals, records on disk, comparisons."""
