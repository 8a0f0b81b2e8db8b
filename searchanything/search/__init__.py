"""From a code to hits."""
