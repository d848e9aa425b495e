"""Programs run as jobs of a batch system, such as Grid Engine or HTCondor; `port` is what one of them has to be able to do."""
