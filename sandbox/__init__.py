"""A local Google to develop and test against: it behaves, it does not replay. `python -m sandbox` runs it.

It imports nothing from `app`: if it shared code with the product it would share its mistakes.
"""

from sandbox.application import Sandbox

__all__ = ["Sandbox"]
