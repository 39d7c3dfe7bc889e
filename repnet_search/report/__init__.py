"""Pictures of what was estimated and found."""
