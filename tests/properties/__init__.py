"""The guarantees of delivery, each against a model small enough to read.

Hypothesis makes the histories: what arrives, what is lost, who dies, how much time passes. Each
module says at its head what must hold. Clocks are passed in or moved, never waited for.
"""
