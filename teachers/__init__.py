"""The full-size models of the reference job, right whales: networks and data."""
