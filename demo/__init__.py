"""`make demo` and `make run`: the whole service on this machine, as separate processes, in the sandbox's world.

Nothing here is part of the service, and nothing is imported from it but the start of the embedded servers: the demo
speaks to it through its command line, its API and its webhooks, as a customer does.
"""
