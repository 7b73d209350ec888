"""Run the gateway: `python -m services.gateway [serve|replay|verify]`."""

from runtime.process import main

from services.gateway.app import NAME, build
from services.gateway.settings import GatewaySettings

if __name__ == "__main__":
    main(NAME, build, settings=GatewaySettings)
