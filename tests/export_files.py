"""A file name for each export format."""

EXPORTS = {
    "geojson": "x.geojson",
    "ome-tiff": "x.ome.tif",
    "ome-zarr": "x.ome.zarr",
    "annotation-store": "x.db",
    "csv": "x.csv",
    "png": "x.png",
}
