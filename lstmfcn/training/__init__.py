"""Train a model in one process, without Ray."""
