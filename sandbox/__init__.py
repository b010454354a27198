"""A local Google and Microsoft to develop and test against: they behave, they do not replay. `python -m sandbox`.

It imports nothing from `app`: if it shared code with the product it would share its mistakes.
"""

from sandbox.application import Sandbox

__all__ = ["Sandbox"]
