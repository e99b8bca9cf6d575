"""Runs beside one another: curves on one axis, results, what differed, and how far a difference can be believed."""
