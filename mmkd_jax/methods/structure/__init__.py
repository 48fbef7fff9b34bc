"""Methods that change which models run, on which inputs, or how often."""
