"""Faces of other systems, each over the public interface of broker-jobs alone."""
