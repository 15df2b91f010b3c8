"""The visible loop and what it stands on."""
