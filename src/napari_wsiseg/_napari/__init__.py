"""napari's side of the house; the only package that may import napari and Qt."""
