"""The guarded client for every address that a customer can name.

It reaches public addresses, and private ones that EGRESS_ALLOW opens. Nothing leads elsewhere: no redirects,
cookies, proxies or credentials of the environment. An exchange costs a bounded time (one deadline over all of it)
and a bounded size, whatever the other side does.
"""

from app.egress.addresses import blocked_reason
from app.egress.client import Egress, EgressAnswer
from app.egress.guard import Lookup
from app.egress.headers import header_problem
from app.egress.urls import url_problem

__all__ = ["Egress", "EgressAnswer", "Lookup", "blocked_reason", "header_problem", "url_problem"]
