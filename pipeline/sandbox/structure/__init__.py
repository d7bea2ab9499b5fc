"""Structure facts of the Klaviyo API, one compact file per revision."""
