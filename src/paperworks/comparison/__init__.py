"""``paperworks compare-methods``: every pruning method at one budget, on one text, measured in one way."""
