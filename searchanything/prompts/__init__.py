"""What a person points at, and which region that means."""
