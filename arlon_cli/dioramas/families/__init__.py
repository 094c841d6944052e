"""One painter for each family of dioramas."""
