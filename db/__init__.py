"""What is remembered: the ledger, artifacts and models in PostgreSQL."""
