"""Networks: backbones with their heads, and the discriminator."""
