"""The paper's experiments on a model that was trained on dioramas: a file for each figure or table."""
