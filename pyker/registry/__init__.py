"""[Docker Registry] The distribution client: auth, transfer, search, push."""
