"""Who computes the stages of a plan: this process, or a Ray cluster."""
