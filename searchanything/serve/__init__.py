"""The web page and REST: one warm process for browsers, programs and the light client."""
