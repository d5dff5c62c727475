"""[Graph] Images, the repositories that name them, the layers they share, and the GraphDB that relates them."""
