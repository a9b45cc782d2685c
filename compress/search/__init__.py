"""A target and a time: tries candidates of a recipe until one is proven to meet the target."""
