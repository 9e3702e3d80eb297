"""A training run as a person starts, stops and watches it: settings, folder, history, loop."""
