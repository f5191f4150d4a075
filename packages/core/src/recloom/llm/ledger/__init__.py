"""The ledger of responses: the store, its export and import, provider batches, and the commands."""
