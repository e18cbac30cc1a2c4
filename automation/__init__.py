"""The automation tier: root, zone and pod nodes, and the resource processes that act on devices."""
