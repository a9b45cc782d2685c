"""Numbers with units, measured on artifacts: accuracy, latency, size, memory, machine."""
