"""A `-m` command is a study: its jobs, its progress, its search, its end."""
