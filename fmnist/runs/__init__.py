"""One run, told in order; resumed, reproduced."""
