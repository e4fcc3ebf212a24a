"""The vendors behind one contract: what every platform offers, its errors, its transport, and one folder a vendor."""
