"""Data sets: found or downloaded, checked, split and scaled."""

from fmnist.data.datasets import digits, fashion_mnist, idx

__all__ = ["digits", "fashion_mnist", "idx"]
