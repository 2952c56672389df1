"""Everything that imports Keras."""
