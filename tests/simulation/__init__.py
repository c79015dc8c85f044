"""The protocol of windows, checkpoints, epochs, loads and log segments, driven through random interleavings of faults.

The code under test is the product's own. Around it everything is a model that one seed decides: the target, the source,
the network between, the clock, the control plane, and who of all of them acts next.
"""
