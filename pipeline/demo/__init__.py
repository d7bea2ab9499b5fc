"""Everything on one machine: embedded broker, local Klaviyo, small shop, proof."""

from pipeline.demo.run import run

__all__ = ["run"]
