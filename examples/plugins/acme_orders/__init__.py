"""An example: orders come in by HTTP, are handed to a carrier, and the warehouse gets a mail."""

from latchflow.sdk import Plugin

from .hand_over import HandOverConfig, hand_over
from .order import OrderConfig, order

plugin = Plugin()
plugin.inbound_trigger("order", display_name="Order received", config_schema=OrderConfig)(order)
plugin.action("hand_over", display_name="Hand an order over", config_schema=HandOverConfig, scopes=["email:send"])(
    hand_over
)

__all__ = ["plugin"]
