"""Results as pictures and as a page that stands alone."""
