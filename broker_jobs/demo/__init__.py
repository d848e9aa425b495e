"""The main job of ``broker-jobs demo``: a graph of more than a thousand tasks over the Python standard library of this machine."""
