"""What a model is: its network, its task, its directory."""
