"""Lists for a whole file of requests, Parquet in and Parquet out."""
