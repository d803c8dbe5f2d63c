"""Where secrets come from: the seam, and the sources over AWS."""
