"""The procedural, captioned world that the embedded model is trained on."""
