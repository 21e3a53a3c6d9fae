"""Files: atomic writing, safe reading, the run folder, and the errors a person sees."""
