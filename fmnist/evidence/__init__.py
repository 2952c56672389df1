"""Pure statistics: arrays in, numbers and verdicts out."""
