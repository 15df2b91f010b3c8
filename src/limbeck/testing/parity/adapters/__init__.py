"""How the arguments of official functions are those of Limbeck's; a file a family."""
