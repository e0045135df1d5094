"""Tools that get models, and make model files of others: merging, baking, extracting, converting.  `README.md` is the map."""
