"""Studies: exact parts, reading across cuts, samplers, from image to answer."""
