"""From a classifier to masks: its cues, a segmentation grown from them, their figures, VOC's server and Table 3."""
