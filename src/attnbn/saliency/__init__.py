"""From a photograph to its saliency map."""
