"""Tensors to numbers: confusion matrices, average precision, the direct evaluation of attention maps."""
