"""Results as the wire has them: names, nil or empty, numbers or strings, by API version. Pure functions."""
