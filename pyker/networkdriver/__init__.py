"""[networkdriver] Bridges, interfaces, addresses, ports and firewall of containers."""
