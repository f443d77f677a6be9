"""Folders on disk: what is written appears whole or not at all."""
