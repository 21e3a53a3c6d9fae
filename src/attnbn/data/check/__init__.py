"""All that can be wrong with data, found in one pass before a training meets it."""
