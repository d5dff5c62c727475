"""The null networkdriver: containers have loopback and nothing else."""

from __future__ import annotations

from pyker.networkdriver.base import DriverContext, Network, Sandbox
from pyker.types.config import EndpointSettings
from pyker.types.ids import EndpointId
from pyker.types.probe import Probe


class NullDriver:
    """Nothing to make and nothing to take down."""

    name = "null"
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
        """An endpoint without an interface."""
        return settings

    def delete_endpoint(self, network: Network, endpoint_id: EndpointId, settings: EndpointSettings) -> None:
        del network
