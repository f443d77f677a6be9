"""What the command line is made of: a file for each group of commands."""
