"""The HTTP API: the same verbs as the command line's, through the same functions, on the same store."""
