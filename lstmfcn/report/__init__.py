"""Report on a model and labelled shards as one HTML file: compute scores, draw figures, render.

Without Ray: rows are read and predicted in this process, in order, a piece at a time.
"""
