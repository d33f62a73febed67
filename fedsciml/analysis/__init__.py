"""What is measured of a trained model: errors, and how surely unknowns are known."""
