"""A local Google, Microsoft and three bot back ends to develop and test against: they behave. `python -m sandbox`.

It imports nothing from `app`: if it shared code with the product it would share its mistakes.
"""

from sandbox.application import Sandbox

__all__ = ["Sandbox"]
