"""What tests share: capabilities of the machine, engines under test, images, registries, residue checks."""
