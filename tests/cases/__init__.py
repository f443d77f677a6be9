"""Inputs that failed once, and more of their kind, each with what should happen."""
