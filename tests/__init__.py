"""Tests of Keyferry: units, integration, fault scenarios on real servers, benchmarks."""
