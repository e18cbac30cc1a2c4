"""Device drivers: the contract, the loader, the conformance kit, and one module per device family."""
