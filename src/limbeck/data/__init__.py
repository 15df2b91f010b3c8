"""Sources, splits, augmentation and loaders."""
