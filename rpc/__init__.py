"""The only words the two tiers share."""
