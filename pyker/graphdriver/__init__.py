"""[graphdriver] How layers are stored, and how they become a root file system."""
