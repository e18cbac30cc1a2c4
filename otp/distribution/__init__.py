"""Nodes, and the links between them: OS processes that run the `otp` runtime.

`node` and `launcher` make processes (by Thespian), `link` carries what they say to each other (past
Thespian), `node_child` lets an ordinary supervisor restart nodes. This package alone knows Thespian
and sockets; it is imported by module, so that who only needs links loads nothing else.
"""
