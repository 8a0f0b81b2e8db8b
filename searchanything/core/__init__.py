"""What everything else is said in: types, errors, settings, protocols, and the maths of boxes, masks and codes."""
