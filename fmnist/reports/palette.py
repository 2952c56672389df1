"""The colours of all pictures: Okabe and Ito's, which colour-blind readers can tell apart."""

BLACK, BLUE, VERMILION, GREEN = "#000000", "#0072b2", "#d55e00", "#009e73"
PINK, ORANGE, SKY_BLUE, GREY = "#cc79a7", "#e69f00", "#56b4e9", "#b0b0b0"

SERIES = (BLACK, VERMILION, BLUE, GREEN, PINK, ORANGE, SKY_BLUE)
"""Of the variants in a picture, in this order; their yellow is too pale on white paper."""
