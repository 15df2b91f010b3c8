"""Studies: arms over seeds, claims about them, and how they are decided."""
