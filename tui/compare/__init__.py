"""Runs beside one another on the screen: overlaid curves, results, differences, and what to believe of them."""
