"""From prompts to one mp4: shots, segments, conditions, and the pipeline that joins them."""
