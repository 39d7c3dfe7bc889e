"""Sources that bundles are made of."""
