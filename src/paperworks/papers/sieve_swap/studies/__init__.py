"""The studies of Sieve and Swap, by what they measure."""
