"""The host networkdriver: containers use the host's own interfaces."""

from __future__ import annotations

from pyker.networkdriver.base import DriverContext, Network, Sandbox
from pyker.types.config import EndpointSettings
from pyker.types.ids import EndpointId
from pyker.types.probe import Probe


class HostDriver:
    """Nothing to make and nothing to take down."""

    name = "host"
    scope = "local"

    def __init__(self, context: DriverContext) -> None:
        del context

    @classmethod
    def probe(cls) -> Probe:
        return Probe(True)

    def create_network(self, network: Network) -> None:
        del network

    def delete_network(self, network: Network) -> None:
        del network

    def create_endpoint(
        self, network: Network, endpoint_id: EndpointId, sandbox: Sandbox, settings: EndpointSettings, ifname: str
    ) -> EndpointSettings:
        """An endpoint without addresses: those of the host are the container's."""
        return settings

    def delete_endpoint(self, network: Network, endpoint_id: EndpointId, settings: EndpointSettings) -> None:
        del network
