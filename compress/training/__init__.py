"""One plain training loop, augmentation as stored views, losses, cached teacher outputs."""
