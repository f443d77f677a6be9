"""Inputs that once failed, and similar ones, each with the expected result."""
