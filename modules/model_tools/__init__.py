"""Tools that make model files of model files: merging, baking, extracting and converting.  `README.md` is the map."""
