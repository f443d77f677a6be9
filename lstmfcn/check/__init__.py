"""The data doctor: every fault of shards, what else may be wrong with them, and cleaned shards."""
