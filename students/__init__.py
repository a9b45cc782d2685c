"""Small networks to distil into, by their own names."""
