"""The commands, a file each: a signature is its flags, a docstring its help."""
