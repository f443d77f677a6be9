"""From CSV and Parquet shards to checked rows: numpy and pyarrow, no PyTorch."""
