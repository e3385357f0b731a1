"""The highest rate that keeps an SLO: attainment at a rate, and the search over rates."""
