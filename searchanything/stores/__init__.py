"""Adapters to image stores and index databases."""
