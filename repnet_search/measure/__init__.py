"""What really happens, measured on the running model."""
