"""Tasks: data, a metric and training, one folder a task; training loop and run directory are shared."""
