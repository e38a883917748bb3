"""All steps of an affine cell at once, in plain torch: a scan over time."""
