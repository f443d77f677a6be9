"""What a model does on labelled shards, as one HTML file: numbers, then drawings, then the page.

No Ray: rows are read and predicted here, in their order, a piece at a time.
"""
