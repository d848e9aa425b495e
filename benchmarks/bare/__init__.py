"""What the work costs without broker-jobs, as short as it can be written: the floor beside which a case is measured."""
