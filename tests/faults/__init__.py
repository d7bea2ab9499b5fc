"""The faults the program must survive, each with the invariant that has to hold."""
