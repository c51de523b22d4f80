"""Fee policies: what a node asks for passing payments on, as its channels and its rivals change."""
