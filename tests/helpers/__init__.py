"""What several tests need: small data and models, commands, kills, endpoints."""
