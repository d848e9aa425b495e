"""Measurements beside other systems, run by ``./scripts/bench``.

A case (`benchmarks.case`, one a module of `benchmarks.cases`) has sides that do the same work: ours, peers (`benchmarks.peers`), and the
bare floor (`benchmarks.bare`). Each side runs in a process of its own, peers in an environment of their own.
"""
