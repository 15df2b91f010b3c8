"""Where models that are not built in come from; one file a source, each with `build`."""
