"""The typed schema of conf/, and what is built from it."""
