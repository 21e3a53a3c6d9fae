"""Maps to masks: localisation cues, region growing, dense CRF, DSRG's losses. Pure functions on tensors."""
