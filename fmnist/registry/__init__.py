"""The model registry: which version is the champion, on what evidence."""
