"""Regions and words drawn on images."""
