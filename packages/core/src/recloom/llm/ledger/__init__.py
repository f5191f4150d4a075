"""Every reply, kept by what was asked of whom; export, import and provider batches."""
