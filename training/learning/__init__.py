"""What the network learns and how: views of the images, targets, losses, stages, steps."""
