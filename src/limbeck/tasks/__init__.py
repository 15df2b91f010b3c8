"""What each modality needs; one file a task, found by its name."""
