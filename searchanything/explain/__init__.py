"""Why an image is, or is not, among the hits."""
