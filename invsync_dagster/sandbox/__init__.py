"""The stand-in marketplaces: virtual clock, faults, transport in process, buyers, and the local server of the demo."""
