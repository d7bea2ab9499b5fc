"""Both directions under random faults for a long time; then the ledger."""
