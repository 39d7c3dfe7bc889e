"""Studies as their readers see them: records, fronts, storages."""
