"""Domain adaptation and generalisation (Tables 6 and 7): which runs, how their settings are chosen, what they are worth."""
