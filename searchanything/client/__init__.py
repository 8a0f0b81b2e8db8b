"""The client that platform code holds."""
