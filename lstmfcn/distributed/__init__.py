"""The only Ray in the package."""
