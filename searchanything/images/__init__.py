"""From bytes to pixels: which objects are images, decoding within limits, crops."""
