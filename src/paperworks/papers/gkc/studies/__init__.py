"""The studies: exact properties, the shape world, digits, and the cost."""
