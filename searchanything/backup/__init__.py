"""An index into a backup, and back."""
