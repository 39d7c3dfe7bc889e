"""The search: space, proposals, workers. Optuna lives here and in results."""
