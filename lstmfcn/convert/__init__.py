"""Convert other files to CSV shards: archive files, arrays, long tables, rows without a header."""
