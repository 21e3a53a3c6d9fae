"""Networks: backbones with their heads, and what tells the domains apart."""
