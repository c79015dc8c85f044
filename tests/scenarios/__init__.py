"""Fault scenarios on real servers: a folder each, named for the fault. All end with equal data sets."""
