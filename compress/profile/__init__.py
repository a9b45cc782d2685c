"""Where a network's time goes on this machine, how near that is to the machine's limits, and what
to try first."""
