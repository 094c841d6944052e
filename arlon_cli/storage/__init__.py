"""What is on disk: checkpoints, the store, videos and their metadata."""
