"""The guarantees of delivery, each compared with a model that is small enough to read.

Hypothesis makes the histories: what arrives, what is lost, which process dies, how much time
passes. Each module says at its head what must hold. Clocks are passed in or moved, never waited
for.
"""
