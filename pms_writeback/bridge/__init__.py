"""The bridge: a small service on the clinic's own machine that dials out to the node.

The clinic's side (`service`, `link`, `journal`, `warehouse`, drivers) imports no network, no image
library and no durable engine; the node's side is `desk`, `listener`, `authority` and `office`.
"""
